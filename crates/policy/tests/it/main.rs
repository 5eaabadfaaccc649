//! What the policy does with what comes from outside.

#[cfg(test)]
mod parsers;
