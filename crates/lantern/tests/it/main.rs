//! The `lantern` program from the outside.

#[cfg(test)]
mod e2e;
