//! The operating system's request to stop.
//!
//! Invariant: from [`Signals::listen`] on, SIGTERM and SIGINT no longer kill the process and none is missed between
//! two calls of [`Signals::recv`]. What to do about a second one is the caller's decision.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT, as they arrive.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes over both signals. Fails when the operating system refuses; must be called inside the runtime.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next of them and names it.
    pub async fn recv(&mut self) -> &'static str {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// `SIGHUP`: an operator has changed something that a server reads.
#[derive(Debug)]
pub struct Hangups {
    hangup: Signal,
}

impl Hangups {
    /// Takes over the signal, which no longer kills the process. Fails when the operating system refuses; must be called
    /// inside the runtime.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { hangup: signal(SignalKind::hangup())? })
    }

    /// Waits for the next; several that come before anybody waits count as one.
    pub async fn recv(&mut self) {
        self.hangup.recv().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[tokio::test]
    async fn a_signal_sent_before_the_wait_is_not_missed() {
        let mut signals = Signals::listen().unwrap();
        let pid = std::process::id();
        for (flag, want) in [("-TERM", "SIGTERM"), ("-INT", "SIGINT")] {
            // The shell's own `kill`: a program of that name is not on every machine.
            assert!(
                Command::new("sh").args(["-c", &format!("kill {flag} {pid}")]).status().unwrap().success()
            );
            assert_eq!(signals.recv().await, want);
        }
    }
}
