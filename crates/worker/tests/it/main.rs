//! The worker over a real database in memory, with scripted models and tools and a clock that runs ahead.

#[cfg(test)]
mod bench;
#[cfg(test)]
mod caps;
#[cfg(test)]
mod clocks;
#[cfg(test)]
mod crash;
mod failover;
#[cfg(test)]
mod life;
#[cfg(test)]
mod money;
#[cfg(test)]
mod outbox;
#[cfg(test)]
mod policies;
#[cfg(test)]
mod shares;
#[cfg(test)]
mod stops;
#[cfg(test)]
mod tree;
