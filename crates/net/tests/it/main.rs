//! The client against real servers on the loopback interface.

#[cfg(test)]
mod http;
#[cfg(test)]
mod server;
