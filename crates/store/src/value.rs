//! The whole type system of the schema: integers, text, bytes, and nothing.
//!
//! Ids are 16 bytes, times and money are integers, JSON is text. A [`Row`] is a plain copy that outlives its
//! connection; its getters fail with [`Error::Misuse`] when a column is absent or of another kind.

use std::sync::Arc;

use lantern_types::*;

use crate::error::{Error, Result};

/// A value as it goes into a statement or comes out of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// SQL's NULL.
    Null,
    /// A BIGINT.
    Int(i64),
    /// A TEXT.
    Text(String),
    /// A BLOB or BYTEA.
    Bytes(Vec<u8>),
    /// An id: a BLOB or BYTEA of 16 bytes. Read back as [`Bytes`](Self::Bytes).
    Id([u8; 16]),
    /// A digest: a BLOB or BYTEA of 32 bytes. Read back as [`Bytes`](Self::Bytes).
    Digest([u8; 32]),
}

impl Value {
    /// What it holds, if it is a byte string of any length.
    pub(crate) fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Id(id) => Some(id),
            Self::Digest(digest) => Some(digest),
            Self::Null | Self::Int(_) | Self::Text(_) => None,
        }
    }
}

/// What can be read back from 16 stored bytes.
pub trait StoredId: Sized {
    /// `None` for any other length.
    fn from_stored(bytes: &[u8]) -> Option<Self>;
}

macro_rules! ids {
    ($($id:ty),+ $(,)?) => {$(
        impl From<$id> for Value {
            fn from(id: $id) -> Self {
                Self::Id(*id.bytes())
            }
        }
        impl StoredId for $id {
            fn from_stored(bytes: &[u8]) -> Option<Self> {
                Self::from_bytes(bytes)
            }
        }
    )+};
}

ids!(
    TenantId,
    UserId,
    AgentId,
    VersionId,
    RunId,
    SessionId,
    SignInId,
    ApiKeyId,
    ProcessId,
    InboxId,
    ApprovalId,
    StopId,
    FeedbackId,
    CallId,
    RequestId,
    InvitationId,
    IdentityId,
    SecretId
);

macro_rules! values {
    ($($from:ty, $name:ident => $value:expr;)+) => {$(
        impl From<$from> for Value {
            fn from($name: $from) -> Self {
                $value
            }
        }
    )+};
}

values! {
    i64, int => Self::Int(int);
    u32, int => Self::Int(i64::from(int));
    Priority, priority => Self::Int(priority.get());
    At, at => Self::Int(at.micros());
    Dur, dur => Self::Int(dur.micros());
    MicroUsd, amount => Self::Int(amount.micros());
    &str, text => Self::Text(text.to_owned());
    String, text => Self::Text(text);
    Vec<u8>, bytes => Self::Bytes(bytes);
    &[u8], bytes => Self::Bytes(bytes.to_vec());
    Digest, digest => Self::Digest(*digest.bytes());
    ChainHead, head => Self::Digest(*head.0.bytes());
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A row: named values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    names: Arc<[String]>,
    values: Vec<Value>,
}

impl Row {
    pub(crate) fn new(names: Arc<[String]>, values: Vec<Value>) -> Self {
        Self { names, values }
    }

    fn position(&self, name: &str) -> Result<usize> {
        self.names
            .iter()
            .position(|column| column == name)
            .ok_or_else(|| Error::Misuse(format!("the row has no column {name:?}")))
    }

    fn get(&self, name: &str) -> Result<&Value> {
        let position = self.position(name)?;
        Ok(self.values.get(position).unwrap_or(&Value::Null))
    }

    /// A BIGINT.
    pub fn int(&self, name: &str) -> Result<i64> {
        self.opt_int(name)?.ok_or_else(|| wrong(name, "an integer"))
    }
    /// A BIGINT that may be NULL.
    pub fn opt_int(&self, name: &str) -> Result<Option<i64>> {
        match self.get(name)? {
            Value::Int(int) => Ok(Some(*int)),
            Value::Null => Ok(None),
            _ => Err(wrong(name, "an integer")),
        }
    }
    /// A TEXT.
    pub fn text(&self, name: &str) -> Result<String> {
        self.opt_text(name)?.ok_or_else(|| wrong(name, "text"))
    }
    /// A TEXT that may be NULL.
    pub fn opt_text(&self, name: &str) -> Result<Option<String>> {
        match self.get(name)? {
            Value::Text(text) => Ok(Some(text.clone())),
            Value::Null => Ok(None),
            _ => Err(wrong(name, "text")),
        }
    }
    /// Bytes.
    pub fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        self.opt_bytes(name)?.ok_or_else(|| wrong(name, "bytes"))
    }
    /// Bytes that may be NULL.
    pub fn opt_bytes(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.opt_slice(name)?.map(<[u8]>::to_vec))
    }
    /// Bytes that may be NULL, moved out: the column reads as NULL afterwards.
    pub fn take_bytes(&mut self, name: &str) -> Result<Option<Vec<u8>>> {
        let position = self.position(name)?;
        match self.values.get_mut(position).map(|value| std::mem::replace(value, Value::Null)) {
            Some(Value::Bytes(bytes)) => Ok(Some(bytes)),
            Some(Value::Null) | None => Ok(None),
            Some(_) => Err(wrong(name, "bytes")),
        }
    }
    fn opt_slice(&self, name: &str) -> Result<Option<&[u8]>> {
        match self.get(name)? {
            Value::Null => Ok(None),
            value => value.as_bytes().map(Some).ok_or_else(|| wrong(name, "bytes")),
        }
    }

    /// An id.
    pub fn id<I: StoredId>(&self, name: &str) -> Result<I> {
        self.opt_id(name)?.ok_or_else(|| wrong(name, "an id"))
    }
    /// An id that may be NULL.
    pub fn opt_id<I: StoredId>(&self, name: &str) -> Result<Option<I>> {
        let read = |bytes| I::from_stored(bytes).ok_or_else(|| wrong(name, "an id"));
        self.opt_slice(name)?.map(read).transpose()
    }
    /// A time.
    pub fn at(&self, name: &str) -> Result<At> {
        self.int(name).map(At::from_micros)
    }
    /// A time that may be NULL.
    pub fn opt_at(&self, name: &str) -> Result<Option<At>> {
        Ok(self.opt_int(name)?.map(At::from_micros))
    }
    /// An amount of money.
    pub fn money(&self, name: &str) -> Result<MicroUsd> {
        self.int(name).map(MicroUsd::from_micros)
    }
    /// A SHA-256 digest.
    pub fn digest(&self, name: &str) -> Result<Digest> {
        self.opt_slice(name)?.and_then(Digest::from_bytes).ok_or_else(|| wrong(name, "a digest"))
    }
    /// The head of a run's chain.
    pub fn chain(&self, name: &str) -> Result<ChainHead> {
        self.digest(name).map(ChainHead)
    }
}

fn wrong(name: &str, want: &str) -> Error {
    Error::Misuse(format!("column {name:?} does not hold {want}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let names = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
        let id = Value::Bytes(DEV_TENANT.bytes().to_vec());
        Row::new(names.into(), vec![Value::Int(5), "x".into(), id, Value::Null])
    }

    #[test]
    fn values_come_back_as_they_went_in() {
        let mut row = row();
        assert_eq!(row.int("a").unwrap(), 5);
        assert_eq!(row.at("a").unwrap(), At::from_micros(5));
        assert_eq!(row.text("b").unwrap(), "x");
        assert_eq!(row.id::<TenantId>("c").unwrap(), DEV_TENANT);
        assert_eq!(row.opt_id::<RunId>("d").unwrap(), None);
        assert_eq!(row.take_bytes("c").unwrap(), Some(DEV_TENANT.bytes().to_vec()));
        assert_eq!(row.opt_bytes("c").unwrap(), None);
    }

    #[test]
    fn a_wrong_question_is_refused() {
        let row = row();
        assert!(matches!(row.int("zzz"), Err(Error::Misuse(_))));
        assert!(matches!(row.int("b"), Err(Error::Misuse(_))));
        assert!(matches!(row.text("d"), Err(Error::Misuse(_))));
        assert!(matches!(row.digest("c"), Err(Error::Misuse(_))));
    }
}
