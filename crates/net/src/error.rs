//! How a connection fails, in the one respect that callers must act on: could the request have been acted upon?
//!
//! Invariant: [`Error::acted`] says [`Acted::No`] only when no byte of the request left this process. Messages name
//! hosts and limits; never a URL's path or query, a header or a body, which may hold secrets.

use lantern_types::{Acted, Denial, Dur};

/// Why a request has no reply, or only a part of one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The URL or a header cannot be sent. Nothing was.
    #[error("cannot be requested: {0}")]
    Invalid(String),
    /// The egress rules refuse the address. Nothing was sent.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// No connection came about: no such name, refused, no TLS, or too slow. Nothing was sent.
    #[error("cannot reach {host}: {reason}")]
    Unreachable {
        /// The host that was asked for, with the port when the URL names one.
        host: String,
        /// The innermost cause.
        reason: String,
        /// What kind of cause that is.
        why: Why,
    },
    /// A deadline passed after the request may have left.
    #[error("{host} sent no {awaited} within {} ms", after.millis())]
    Timeout {
        /// The host that was asked, with the port when the URL names one.
        host: String,
        /// What it was waited for.
        awaited: Awaited,
        /// The deadline that passed.
        after: Dur,
    },
    /// The connection broke, or what came over it was not HTTP, after the request may have left.
    #[error("the connection to {host} broke: {reason}")]
    Interrupted {
        /// The host that was asked, with the port when the URL names one.
        host: String,
        /// The innermost cause.
        reason: String,
    },
    /// The reply is longer than the caller takes.
    #[error("the reply has more than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The client itself could not be set up; nothing can be requested.
    #[error("the HTTP client cannot be set up: {0}")]
    Setup(String),
}

/// Why no connection came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No address is known for the name.
    Name,
    /// Nothing listens there.
    Refused,
    /// The other side speaks no TLS, or its certificate is not accepted.
    Tls,
    /// It took too long.
    Slow,
    /// Anything else.
    Other,
}

/// A name of which no address is known, as told by the resolver.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unresolved(pub(crate) std::io::Error);

/// What a deadline was set for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// Status and headers.
    FirstByte,
    /// The next piece of the body.
    NextByte,
    /// The end of the body.
    LastByte,
}

impl std::fmt::Display for Awaited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::FirstByte => "reply",
            Self::NextByte => "further byte",
            Self::LastByte => "complete reply",
        })
    }
}

impl Error {
    /// Whether the other side may have acted on the request.
    pub const fn acted(&self) -> Acted {
        match self {
            Self::Invalid(_) | Self::Denied(_) | Self::Unreachable { .. } | Self::Setup(_) => Acted::No,
            Self::Timeout { .. } | Self::Interrupted { .. } | Self::TooLarge { .. } => Acted::Unknown,
        }
    }

    /// Reads what the HTTP library says; the library's own type ends here.
    pub(crate) fn of(host: &str, error: &reqwest::Error) -> Self {
        if let Some(denial) = find::<Denial>(error) {
            return Self::Denied(denial.clone());
        }
        if error.is_builder() {
            return Self::Invalid(innermost(error));
        }
        let (host, reason) = (host.to_owned(), innermost(error));
        if error.is_connect() {
            Self::Unreachable { host, reason, why: why(error) }
        } else {
            Self::Interrupted { host, reason }
        }
    }
}

type Source<'a> = &'a (dyn std::error::Error + 'static);

fn chain(error: &reqwest::Error) -> impl Iterator<Item = Source<'_>> {
    std::iter::successors(std::error::Error::source(error), |cause| cause.source())
}

fn find<T: std::error::Error + 'static>(error: &reqwest::Error) -> Option<&T> {
    chain(error).find_map(|cause| cause.downcast_ref())
}

fn why(error: &reqwest::Error) -> Why {
    let io = || chain(error).filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    if find::<Unresolved>(error).is_some() {
        Why::Name
    } else if find::<rustls::Error>(error).is_some() || io().any(of_tls) {
        Why::Tls
    } else if io().any(|error| error.kind() == std::io::ErrorKind::ConnectionRefused) {
        Why::Refused
    } else if error.is_timeout() || io().any(|error| error.kind() == std::io::ErrorKind::TimedOut) {
        Why::Slow
    } else {
        Why::Other
    }
}

/// What an IO error was made of is no source of it; it may be another IO error.
fn of_tls(error: &std::io::Error) -> bool {
    error.get_ref().is_some_and(|inner| {
        inner.is::<rustls::Error>() || inner.downcast_ref::<std::io::Error>().is_some_and(of_tls)
    })
}

/// The innermost cause is the one that tells something, and unlike the outermost it never quotes the URL.
fn innermost(error: &reqwest::Error) -> String {
    chain(error).last().map_or_else(|| "the request cannot be made".to_owned(), ToString::to_string)
}
