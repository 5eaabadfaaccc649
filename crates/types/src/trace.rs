//! Names of traces and spans: W3C trace context, and ids that follow from a run's.
//!
//! Invariant: a span of a run has the same id whoever computes it, however often: it is a digest of the run, the step and the
//! attempt. So what is exported twice is the same span, and a request says which attempt it belongs to before that is over.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Digest, RunId};

/// The header that carries a [`TraceParent`].
pub const TRACEPARENT: &str = "traceparent";

/// One trace: 16 bytes that are not all zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId([u8; 16]);

/// One span: 8 bytes that are not all zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId([u8; 8]);

/// Which span something belongs under, and whether its trace is kept: the `traceparent` header of W3C Trace Context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace: TraceId,
    /// The span in it.
    pub span: SpanId,
    /// Whether spans of the trace are kept.
    pub sampled: bool,
}

/// The text was no trace parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent: write 00-TRACE-SPAN-FLAGS, with 32, 16 and 2 lower-case hex digits")]
pub struct InvalidTrace;

impl TraceId {
    /// The trace of a run that nobody brought one for.
    pub fn of_run(run: RunId) -> Self {
        Self(first(&Digest::of_parts(&[b"trace", run.bytes()])))
    }
}

impl SpanId {
    /// That of a run itself.
    pub fn of_run(run: RunId) -> Self {
        Self::of(&[b"span-run", run.bytes()])
    }

    /// That of one attempt of a step.
    pub fn of_attempt(run: RunId, step: &str, attempt: u32) -> Self {
        Self::of(&[b"span-attempt", run.bytes(), step.as_bytes(), &attempt.to_be_bytes()])
    }

    /// That of something else that happened in a run, whose event says where.
    pub fn of_event(run: RunId, seq: u64) -> Self {
        Self::of(&[b"span-event", run.bytes(), &seq.to_be_bytes()])
    }

    fn of(parts: &[&[u8]]) -> Self {
        Self(first(&Digest::of_parts(parts)))
    }
}

/// The first bytes of a digest. That all of them are zero nobody will see; the last bit is set where they were.
fn first<const N: usize>(digest: &Digest) -> [u8; N] {
    let mut bytes = [0; N];
    for (to, from) in bytes.iter_mut().zip(digest.bytes()) {
        *to = *from;
    }
    if bytes.iter().all(|byte| *byte == 0)
        && let Some(last) = bytes.last_mut()
    {
        *last = 1;
    }
    bytes
}

macro_rules! hex_id {
    ($($name:ident of $bytes:literal),+) => {$(
        impl $name {
            /// Its bytes.
            pub const fn bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl FromStr for $name {
            type Err = InvalidTrace;
            fn from_str(text: &str) -> Result<Self, InvalidTrace> {
                let mut bytes = [0; $bytes];
                let lower = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
                if !lower || hex::decode_to_slice(text, &mut bytes).is_err() || bytes.iter().all(|byte| *byte == 0) {
                    return Err(InvalidTrace);
                }
                Ok(Self(bytes))
            }
        }
    )+};
}

hex_id!(TraceId of 16, SpanId of 8);

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

impl FromStr for TraceParent {
    type Err = InvalidTrace;

    /// Version 00, and what a later one adds behind it is left out. Of the flags only the first counts.
    fn from_str(text: &str) -> Result<Self, InvalidTrace> {
        let mut parts = text.trim().splitn(5, '-');
        let mut next = || parts.next().ok_or(InvalidTrace);
        let (version, trace, span, flags) = (next()?, next()?, next()?, next()?);
        let [version] = byte(version)?;
        let [flags] = byte(flags)?;
        if version == 0xff || version == 0 && parts.next().is_some() {
            return Err(InvalidTrace);
        }
        Ok(Self { trace: trace.parse()?, span: span.parse()?, sampled: flags & 1 == 1 })
    }
}

fn byte(text: &str) -> Result<[u8; 1], InvalidTrace> {
    let mut byte = [0];
    let lower = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    match hex::decode_to_slice(text, &mut byte) {
        Ok(()) if lower => Ok(byte),
        _ => Err(InvalidTrace),
    }
}

impl Serialize for TraceParent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TraceParent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DEV_USER;

    #[test]
    fn a_header_is_read_as_the_standard_says_or_not_at_all() {
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let (no_trace, no_span) = ("0".repeat(32), "0".repeat(16));
        for (text, want) in [
            (format!("00-{trace}-{span}-01"), Some(true)),
            (format!(" 00-{trace}-{span}-00 "), Some(false)),
            (format!("00-{trace}-{span}-03"), Some(true)),
            (format!("01-{trace}-{span}-01-more"), Some(true)),
            (format!("00-{trace}-{span}-01-more"), None),
            (format!("ff-{trace}-{span}-01"), None),
            (format!("00-{no_trace}-{span}-01"), None),
            (format!("00-{trace}-{no_span}-01"), None),
            (format!("00-{}-{span}-01", trace.to_uppercase()), None),
            (format!("00-{trace}-{span}-0A"), None),
            (format!("00-{trace}-{span}"), None),
            (format!("00-{span}-{trace}-01"), None),
            (String::new(), None),
            ("é-é-é-é".to_owned(), None),
        ] {
            let read: Option<TraceParent> = text.parse().ok();
            assert_eq!(read.map(|parent| parent.sampled), want, "{text:?}");
            let Some(read) = read else { continue };
            assert_eq!((read.trace.to_string(), read.span.to_string()), (trace.to_owned(), span.to_owned()));
            assert_eq!(read.to_string().parse(), Ok(read));
            let json = serde_json::to_string(&read).unwrap();
            assert_eq!(serde_json::from_str::<TraceParent>(&json).unwrap(), read);
        }
    }

    #[test]
    fn ids_follow_from_the_run_and_from_all_that_names_them() {
        let run = RunId::from_uuid(DEV_USER.uuid());
        assert_eq!(SpanId::of_attempt(run, "a", 1), SpanId::of_attempt(run, "a", 1));
        let all = [
            SpanId::of_run(run),
            SpanId::of_attempt(run, "a", 1),
            SpanId::of_attempt(run, "a", 2),
            SpanId::of_attempt(run, "b", 1),
            SpanId::of_event(run, 1),
        ];
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        // Processes of several builds must agree on them.
        assert_eq!(TraceId::of_run(run).to_string(), "8ecc97a0fb12262683d58970e87e8dfb");
        assert_eq!(SpanId::of_run(run).to_string(), "afa2c2fa245731f9");
    }

    proptest::proptest! {
        #[test]
        fn no_header_makes_it_fail(text in "\\PC{0,60}") {
            if let Ok(read) = text.parse::<TraceParent>() {
                proptest::prop_assert_eq!(read.to_string().parse(), Ok(read));
            }
        }
    }
}
