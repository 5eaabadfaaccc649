//! From the neutral call to a vendor's wire and back. Pure: no IO, no clock, no error codes but "this makes no sense".

pub(crate) mod openai;

#[cfg(test)]
mod golden;

/// The wire that every endpoint speaks today.
pub(crate) use openai as wire;
