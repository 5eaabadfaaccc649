//! Between the neutral form and the families' wires: pure functions, and two machines for streams.
//!
//! This is `convert` as other crates see it.

pub use crate::convert::{
    Decoder, Encoder, Malformed, Problem, ProblemKind, Stamp, Told, Written, read_reply, read_request,
    write_reply, write_request,
};
pub use crate::vendor::errors::{in_band, refusal};
