//! Policies as people write them: what they say, what is refused and where, and that nothing they are makes trouble.

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tables;
