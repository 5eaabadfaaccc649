//! The front doors of the real program: official clients, caps, streams that are stopped, clients that go away.

mod between;
mod caps;
mod clients;
mod cluster;
mod elsewhere;
mod failover;
mod own;
mod runs;
mod upstream;
mod vendors;
