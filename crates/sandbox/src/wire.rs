//! A network with nothing in it but a listener of ours: what a box has that may reach out.
//!
//! Invariant: the namespace has its own loopback and no other interface, so no address can be reached from it but its own, and there
//! the one who answers is whoever holds the listener, outside. It is made before its box, so no program is ever in it without the
//! listener, and belongs to root's user namespace, so no program in it can change it. It is gone when the last who holds it is.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::{io, thread};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::thread::UnshareFlags;
use tokio::sync::oneshot;

use crate::error::{Error, Result};

/// Where a box finds the listener, at 127.0.0.1.
pub const PORT: u16 = 3_128;

/// The network of one box.
#[derive(Debug)]
pub struct Wire {
    namespace: File,
}

impl Wire {
    /// Makes a network, and the listener in it, which does not block.
    pub async fn lay() -> Result<(Self, TcpListener)> {
        let (done, laid) = oneshot::channel();
        // On a thread of its own, which ends: a thread that has entered a namespace is of no other use.
        let thread = thread::Builder::new().name("wire".to_owned()).spawn(move || done.send(lay()));
        thread.map_err(failed)?;
        let laid = laid.await.map_err(|_| failed(io::Error::other("the thread ended")))?;
        let (namespace, listener) = laid.map_err(failed)?;
        Ok((Self { namespace }, listener))
    }

    /// By what name a runtime, which is a child of this process, can open it.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.namespace.as_raw_fd()).into()
    }
}

fn failed(source: io::Error) -> Error {
    Error::Io { what: "cannot make a network for a box".to_owned(), source }
}

#[expect(deprecated, reason = "the sound form needs unsafe, for flags that are not used here")]
fn lay() -> io::Result<(File, TcpListener)> {
    rustix::thread::unshare(UnshareFlags::NEWNET)?;
    raise_loopback()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT))?;
    listener.set_nonblocking(true)?;
    Ok((File::open("/proc/thread-self/ns/net")?, listener))
}

/// `RTM_NEWLINK` for the first interface, with an acknowledgement: up.
const UP: [[u8; 4]; 8] = [
    32_u32.to_ne_bytes(),
    flags(16, 1 | 4),
    1_u32.to_ne_bytes(),
    0_u32.to_ne_bytes(),
    0_u32.to_ne_bytes(),
    1_u32.to_ne_bytes(),
    1_u32.to_ne_bytes(),
    1_u32.to_ne_bytes(),
];
const ERROR: usize = 16;

const fn flags(kind: u16, flags: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (kind.to_ne_bytes(), flags.to_ne_bytes());
    [a, b, c, d]
}

fn raise_loopback() -> io::Result<()> {
    let family = AddressFamily::NETLINK;
    let flags = SocketFlags::CLOEXEC;
    // The protocol 0 is that of routes and interfaces.
    let socket = rustix::net::socket_with(family, SocketType::RAW, flags, None)?;
    rustix::net::send(&socket, UP.as_flattened(), SendFlags::empty())?;
    let mut answer = [0; 256];
    let (_, length) = rustix::net::recv(&socket, &mut answer, RecvFlags::empty())?;
    let error = answer.get(..length).and_then(|answer| answer.get(ERROR..ERROR + 4)?.first_chunk::<4>());
    match error.map(|error| i32::from_ne_bytes(*error)) {
        Some(0) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(-error)),
        None => Err(io::Error::other("the kernel did not answer")),
    }
}
