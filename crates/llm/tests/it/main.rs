//! Model calls against real servers on the loopback interface, good and bad.

#[cfg(test)]
mod call;
#[cfg(test)]
#[path = "../../../net/tests/it/server.rs"]
mod server;
