//! The store's one error: a variant for each thing a caller can do about it.
//!
//! Drivers' own errors travel inside as sources and never in a signature. "Not found" is not an error here: reads
//! answer `Option`.

use std::error::Error as StdError;

/// What the store's functions answer with.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error below, whose type is nobody's business.
pub type Source = Box<dyn StdError + Send + Sync>;

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else was first: a guard or a unique key said no. Nothing was written; read again, then decide.
    #[error("the row has changed, or one like it exists")]
    Conflict,
    /// It did not happen for a reason that passes (a full queue, a lost connection, a busy database). Try again.
    /// A connection lost in the middle of a commit leaves the outcome open: read the head before repeating.
    #[error("the database cannot answer now")]
    Unavailable(#[source] Source),
    /// The agent has begun as many runs in this day as its budget lets it. Nothing was written.
    #[error("agent budget limit reached: it may begin {most} runs a day, and has")]
    RunsOfDay {
        /// So many.
        most: u32,
    },
    /// The disk, or the space the database may take, is full. Nothing was written, and reads still work.
    #[error("there is no space left for the database")]
    Full,
    /// The database takes no writes now: it is a standby, or somebody has made it read-only. Nothing was written, and
    /// reads still work.
    #[error("the database is read-only")]
    ReadOnly,
    /// Another process has this data folder open.
    #[error("the data folder is in use by another process{}", holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Locked {
        /// Its process id, when it could be read.
        holder: Option<u32>,
    },
    /// The database file is damaged: restore it from a backup.
    #[error("the database file is damaged")]
    Corrupt(#[source] Source),
    /// A file that holds what was said is not where it was put: the database is well, and what it names is gone.
    #[error("the payload {0} is missing")]
    Missing(lantern_types::Digest),
    /// The file is a healthy database of some other program.
    #[error("the database belongs to another program")]
    Foreign,
    /// The database belongs to the Lantern before this one, whose tables have our names and mean other things.
    #[error("the database belongs to an earlier Lantern, whose tables mean other things")]
    Earlier,
    /// A backup cannot be made or restored like this: says why.
    #[error("{0}")]
    Backup(String),
    /// A build that is more than one release newer migrated the schema: run that one, or one between the two.
    #[error(
        "the database has schema {found}, and this build goes on with none that is so much newer than {known}"
    )]
    TooNew {
        /// The number of the newest migration in the database.
        found: i64,
        /// The number of the newest migration in this build.
        known: i64,
    },
    /// The schema is older than this build needs: run `lantern migrate`.
    #[error("the database has schema {found}, and this build needs {known}: run `lantern migrate`")]
    TooOld {
        /// The number of the newest migration in the database.
        found: i64,
        /// The number of the newest migration in this build.
        known: i64,
    },
    /// A connection string is somebody else's: it leads to another role than the one that it is for.
    #[error("the connection of {wanted} is one of {found}")]
    Role {
        /// The role that it is for.
        wanted: &'static str,
        /// The role that it leads to.
        found: String,
    },
    /// The caller broke a rule of this crate: a statement without its tenant, a wrong type, a missing role.
    #[error("misuse of the store: {0}")]
    Misuse(String),
    /// The master key that was given is none, or its file is not safe to use: the operator must put another there.
    #[error("{0}")]
    Key(String),
    /// Sealed bytes could not be opened: another key sealed them, they were shredded, or somebody changed them.
    #[error("sealed data could not be opened: {0}")]
    Sealed(&'static str),
    /// The operating system refused a file of the data folder.
    #[error("{doing}")]
    File {
        /// What was being done, with the path.
        doing: String,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A fault of ours. A human should look.
    #[error("the store failed")]
    Internal(#[source] Source),
}

impl Error {
    /// For a reason that passes.
    pub(crate) fn unavailable(why: impl Into<Source>) -> Self {
        Self::Unavailable(why.into())
    }
    /// For a fault of ours.
    pub(crate) fn internal(why: impl Into<Source>) -> Self {
        Self::Internal(why.into())
    }
    /// For a file that could not be read or written; a full disk is told apart.
    pub(crate) fn file(doing: impl Into<String>, source: std::io::Error) -> Self {
        match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::File { doing: doing.into(), source },
        }
    }
    /// Whether the same call may succeed later without anybody changing anything.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Full | Self::ReadOnly)
    }
    /// The same error for one more caller, whose work was lost with that of others.
    pub(crate) fn echo(&self) -> Self {
        match self {
            Self::Full => Self::Full,
            Self::ReadOnly => Self::ReadOnly,
            Self::Corrupt(source) => Self::Corrupt(source.to_string().into()),
            Self::Missing(digest) => Self::Missing(*digest),
            Self::Unavailable(source) | Self::Internal(source) => Self::unavailable(source.to_string()),
            other => Self::unavailable(other.to_string()),
        }
    }
}
