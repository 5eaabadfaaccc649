//! Shapes on the wire, as the vendors document them. No behaviour.
//!
//! Invariant: every field is optional, and what a shape does not name is in its `rest`. Vendors send `null` where they
//! mean nothing, and imitations leave out what is documented; what a field must be is for `convert` to say. The same
//! shapes are read and written.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Structs of which each field may be absent or `null`, and which keep what they do not know.
macro_rules! shapes {
    ($($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $kind:ty,)* })*) => { $(
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        $(#[$meta])*
        pub(crate) struct $name {
            $(
                $(#[$field_meta])*
                #[serde(skip_serializing_if = "Option::is_none")]
                pub(crate) $field: Option<$kind>,
            )*
            #[serde(flatten)]
            pub(crate) rest: crate::neutral::Extra,
        }
    )* };
}

pub(crate) mod chat;
pub(crate) mod converse;
pub(crate) mod generate;
pub(crate) mod messages;
pub(crate) mod responses;

/// What several wires write as a text when it is one, and as a list otherwise.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said<T> {
    Text(String),
    Parts(Vec<T>),
}

impl<T: Serialize> Serialize for Said<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Parts(parts) => parts.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Said<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Either(PhantomData))
    }
}

struct Either<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
    type Value = Said<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list")
    }
    fn visit_str<E>(self, text: &str) -> Result<Said<T>, E> {
        Ok(Said::Text(text.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Said<T>, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(Said::Parts)
    }
}
