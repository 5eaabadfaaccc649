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
            Self::Unreachable { host, reason }
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

/// The innermost cause is the one that tells something, and unlike the outermost it never quotes the URL.
fn innermost(error: &reqwest::Error) -> String {
    chain(error).last().map_or_else(|| "the request cannot be made".to_owned(), ToString::to_string)
}
