//! What spans are made of journals, and what bytes of spans.

mod bytes;
mod journals;
