//! What the crate's types do with what comes from outside.

#[cfg(test)]
mod parsers;
