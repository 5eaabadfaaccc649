//! What spans are made of journals, and what bytes of spans.

#[cfg(test)]
mod bytes;
#[cfg(test)]
mod journals;
