//! The edge over what clients write.

#[cfg(test)]
mod parsers;
