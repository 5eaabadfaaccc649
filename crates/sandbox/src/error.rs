//! What can go wrong with images and boxes, by what can be done about it.

use std::io;
use std::path::Path;

/// One error for the crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such image here: build or import it.
    #[error("the image {0} is not on this machine; make it with `lantern build`")]
    NoImage(String),
    /// The image is not what its digest says, or breaks the rules: do not use it.
    #[error("the image is refused: {0}")]
    BadImage(String),
    /// It may not run in this box.
    #[error("{0}")]
    Refused(String),
    /// The machine did not do it.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The runtime did not make the box.
    #[error("the box could not be made: {0}")]
    NotMade(String),
}

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn io(what: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let what = format!("cannot {what} {}", path.display());
        move |source| Self::Io { what, source }
    }
}
