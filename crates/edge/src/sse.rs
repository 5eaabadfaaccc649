//! Server-sent events: frames, where to resume, and a body that is paced by its reader.
//!
//! Invariant: the body is pulled. A frame is made when the client can take it, so a slow client costs no memory; one
//! that takes nothing at all is cut by the connection (`serve.rs`). A quiet stream beats every 15 s, and every stream
//! ends when the server stops, and when what its client was let in by is over (`pass.rs`). What the frames say is the
//! caller's.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use lantern_net::Shutdown;
use lantern_types::Dur;
use lantern_types::edge::Clock;

use crate::code::Code;
use crate::openapi::{Kind, Param};
use crate::pass::Pass;
use crate::problem::{Error, Result};
use crate::query::{Params, wrong};

const HEARTBEAT: Dur = Dur::from_secs(15);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Reverse proxies that buffer answers stop doing so for this one.
const UNBUFFERED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What a client resumes after; frames that it may miss have none.
    pub id: Option<u64>,
    /// Its kind; empty where the data says it, and then there is no `event:` line.
    pub event: Cow<'static, str>,
    /// Its data.
    pub data: String,
}

impl Frame {
    fn encode(&self) -> Bytes {
        let mut text = String::with_capacity(self.data.len() + 64);
        if let Some(id) = self.id {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "id: {id}");
        }
        if !self.event.is_empty() {
            let _ = writeln!(text, "event: {}", self.event);
        }
        for line in self.data.split('\n') {
            let _ = writeln!(text, "data: {line}");
        }
        text.push('\n');
        text.into()
    }
}

/// Where a client wants a stream to begin, and whether it should go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The first event it wants.
    pub from_seq: u64,
    /// Whether to wait for more after the stored ones.
    pub live: bool,
}

/// What a stream takes in its query.
pub const PARAMS: [Param; 2] = [
    Param { name: "fromSeq", about: "The first event to send.", kind: Kind::From(0) },
    Param {
        name: "live",
        about: "`false` ends the stream after what is stored.",
        kind: Kind::Word(&["true", "false", "1", "0"]),
    },
];

impl Resume {
    /// From the beginning, and on.
    pub const START: Self = Self { from_seq: 1, live: true };

    /// `Last-Event-ID: n` begins after n, `?from_seq=n` at n; the header wins, because a browser that reconnects
    /// sends the old query with it. `?live=false` ends after the stored events.
    pub fn of(headers: &HeaderMap, params: &Params) -> Result<Self> {
        let asked = params.parsed::<u64>("fromSeq", "an event's seq")?;
        let live = match params.word("live", &["true", "false", "1", "0"])? {
            Some(word) => matches!(word, "true" | "1"),
            None => true,
        };
        let from_seq = match headers.get(LAST_EVENT_ID) {
            Some(value) => last_seen(value)?.saturating_add(1),
            None => asked.unwrap_or(1),
        };
        if i64::try_from(from_seq).is_err() {
            return Err(wrong("from_seq", "expected an event's seq"));
        }
        Ok(Self { from_seq, live })
    }
}

/// Where a client was in a stream whose ids are no numbers of events, and whether it should go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct After {
    /// The id of the last frame that it has; 0 for none.
    pub id: u64,
    /// Whether to wait for more after the stored ones.
    pub live: bool,
}

/// What such a stream takes in its query.
pub const AFTER: [Param; 2] = [
    Param { name: "after", about: "The id of the last frame that is known.", kind: Kind::From(0) },
    PARAMS[1],
];

impl After {
    /// `Last-Event-ID` wins over `?after=`, because a browser that reconnects sends the old query with it.
    pub fn of(headers: &HeaderMap, params: &Params) -> Result<Self> {
        let asked = params.parsed::<u64>("after", "a frame's id")?;
        let Resume { from_seq, live } = Resume::of(headers, params)?;
        let id = match headers.get(LAST_EVENT_ID) {
            Some(_) => from_seq.saturating_sub(1),
            None => asked.unwrap_or_else(|| from_seq.saturating_sub(1)),
        };
        if i64::try_from(id).is_err() {
            return Err(wrong("after", "expected a frame's id"));
        }
        Ok(Self { id, live })
    }
}

fn last_seen(value: &HeaderValue) -> Result<u64> {
    let text = value.to_str().unwrap_or("?").trim();
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|_| Error::new(Code::InvalidHeader, "Last-Event-ID: expected the id of an event"))
}

/// How long a stream may go on, and the frame that says why it does not.
pub struct Leave {
    /// What its client was let in by.
    pub pass: Pass,
    /// The last frame once that is over.
    pub last: Frame,
}

/// An answer that sends `frames` until they end, the client leaves or may no longer, or the server stops.
pub fn events(
    frames: impl Stream<Item = Frame> + Send + 'static,
    leave: Leave,
    clock: Arc<dyn Clock>,
    stop: Shutdown,
) -> Response {
    let feed = Feed { frames: Box::pin(frames), leave: Some(leave), clock, stop };
    let chunks = stream::unfold(feed, |mut feed| async move {
        let chunk = feed.next().await?;
        Some((Ok::<_, Infallible>(chunk), feed))
    });
    let mut response = Body::from_stream(chunks).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(UNBUFFERED.0, UNBUFFERED.1);
    response
}

struct Feed {
    frames: Pin<Box<dyn Stream<Item = Frame> + Send>>,
    /// Taken when it is over.
    leave: Option<Leave>,
    clock: Arc<dyn Clock>,
    stop: Shutdown,
}

impl Feed {
    async fn next(&mut self) -> Option<Bytes> {
        let pass = &mut self.leave.as_mut()?.pass;
        tokio::select! {
            biased;
            () = self.stop.requested() => None,
            // Before the frames: from then on nothing is told.
            () = pass.over(&*self.clock) => self.leave.take().map(|leave| leave.last.encode()),
            frame = self.frames.next() => Some(frame?.encode()),
            () = self.clock.sleep(HEARTBEAT) => Some(Bytes::from_static(b": heartbeat\n\n")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use lantern_net::RealClock;
    use lantern_policy::{Actor, Principal};
    use lantern_types::{ApiKeyId, At, DEV_TENANT};

    use crate::pass::Passes;
    use crate::pass::testing::PausedClock;

    fn frame(id: u64) -> Frame {
        Frame { id: Some(id), event: "step_started".into(), data: format!("{{\"seq\":{id}}}") }
    }

    /// Leave until then.
    fn until(until: Option<At>) -> Leave {
        let principal = Principal::Key { id: ApiKeyId::from_uuid(DEV_TENANT.uuid()), scopes: Vec::new() };
        let pass = Passes::default().hold(&Actor { tenant: DEV_TENANT, principal, until });
        Leave { pass, last: Frame { id: None, event: "error".into(), data: "over".into() } }
    }

    async fn next(body: &mut Body) -> Option<String> {
        let frame = body.frame().await?.unwrap();
        Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn frames_then_heartbeats_then_the_end_at_shutdown() {
        let (clock, stop) = (Arc::new(RealClock::new()), Shutdown::new());
        let frames = stream::iter([frame(7)]).chain(stream::pending());
        let mut body = events(frames, until(None), clock, stop.clone()).into_body();
        assert_eq!(next(&mut body).await.unwrap(), "id: 7\nevent: step_started\ndata: {\"seq\":7}\n\n");
        assert_eq!(next(&mut body).await.unwrap(), ": heartbeat\n\n");
        assert_eq!(next(&mut body).await.unwrap(), ": heartbeat\n\n");
        stop.request();
        assert_eq!(next(&mut body).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_told_once_leave_is_over() {
        let clock = Arc::new(PausedClock::new());
        let leave = until(Some(clock.now() + Dur::from_secs(20)));
        let frames = stream::iter([frame(7)]).chain(stream::pending());
        let mut body = events(frames, leave, clock.clone(), Shutdown::new()).into_body();
        assert!(next(&mut body).await.unwrap().starts_with("id: 7\n"));
        assert_eq!(next(&mut body).await.unwrap(), ": heartbeat\n\n");
        let before = clock.now();
        assert_eq!(next(&mut body).await.unwrap(), "event: error\ndata: over\n\n");
        assert_eq!(clock.now().since(before), Dur::from_secs(5));
        assert_eq!(next(&mut body).await, None);

        let frames = stream::iter([frame(7), frame(8)]);
        let mut body = events(frames, until(Some(clock.now())), clock, Shutdown::new()).into_body();
        assert_eq!(next(&mut body).await.unwrap(), "event: error\ndata: over\n\n");
        assert_eq!(next(&mut body).await, None, "the frames that were there are not told either");
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_frames() {
        let frames = stream::iter([Frame { id: None, event: "end".into(), data: "a\nb".into() }]);
        let mut body = events(frames, until(None), Arc::new(RealClock::new()), Shutdown::new()).into_body();
        assert_eq!(next(&mut body).await.unwrap(), "event: end\ndata: a\ndata: b\n\n");
        assert_eq!(next(&mut body).await, None);
    }

    #[test]
    fn a_client_goes_on_after_what_it_has() {
        use axum::extract::FromRequestParts as _;
        use futures_util::FutureExt as _;
        for (uri, last, want) in [
            ("/e", None, Some((0, true))),
            ("/e?after=5&live=0", None, Some((5, false))),
            ("/e?after=5", Some("9"), Some((9, true))),
            ("/e?from_seq=5", None, Some((4, true))),
            ("/e?after=x", None, None),
            ("/e?after=18446744073709551615", None, None),
        ] {
            let (mut parts, ()) = http::Request::get(uri).body(()).unwrap().into_parts();
            let params = Params::from_request_parts(&mut parts, &()).now_or_never().unwrap().unwrap();
            let mut headers = HeaderMap::new();
            headers.extend(last.map(|last| (LAST_EVENT_ID, HeaderValue::from_static(last))));
            let got = After::of(&headers, &params).ok().map(|after| (after.id, after.live));
            assert_eq!(got, want, "{uri} {last:?}");
        }
    }

    #[test]
    fn a_frame_whose_data_says_its_kind_has_no_other() {
        let frame = Frame { id: Some(7), event: "".into(), data: "{}".into() };
        assert_eq!(frame.encode(), "id: 7\ndata: {}\n\n");
    }

    #[test]
    fn a_client_resumes_where_it_says() {
        use axum::extract::FromRequestParts as _;
        use futures_util::FutureExt as _;
        let resume = |uri: &str, last: Option<&'static str>| {
            let (mut parts, ()) = http::Request::get(uri).body(()).unwrap().into_parts();
            let params = Params::from_request_parts(&mut parts, &()).now_or_never().unwrap().unwrap();
            let mut headers = HeaderMap::new();
            headers.extend(last.map(|last| (LAST_EVENT_ID, HeaderValue::from_static(last))));
            Resume::of(&headers, &params).ok().map(|resume| (resume.from_seq, resume.live))
        };
        for (uri, last, want) in [
            ("/e", None, Some((1, true))),
            ("/e?from_seq=5", None, Some((5, true))),
            ("/e?fromSeq=5&live=false", None, Some((5, false))),
            ("/e?from_seq=5", Some("9"), Some((10, true))),
            ("/e", Some(""), Some((1, true))),
            ("/e", Some("x"), None),
            ("/e?from_seq=-1", None, None),
            ("/e?from_seq=18446744073709551615", None, None),
            ("/e?live=maybe", None, None),
        ] {
            assert_eq!(resume(uri, last), want, "{uri} {last:?}");
        }
    }
}
