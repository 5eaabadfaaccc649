//! Routes as data: each names its method, its path and its action, and there is no other way to add one.
//!
//! Invariant: `get_route` and its like take only handlers whose first argument is a [`Permit`], so a route without an
//! authorization does not compile. A POST that is sent again with its `Idempotency-Key` is answered again, not made again;
//! what must not be kept for that says so with `fresh_post_route`. What is open to everybody says so with `public_get` and
//! its like and is listed in `golden/public-routes.txt`.

use std::future::ready;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::handler::Handler;
use axum::middleware::{map_request, map_response};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, any, on};
use lantern_policy::{Access, Act, Permit};
use serde_json::Value;

use crate::code::Kind;
use crate::idempotency::{self, Remembers};
use crate::openapi::{Answers, Call, Operation, Param};
use crate::prefer::{self, Holds};
use crate::problem::Shape;
use crate::query;
use crate::ticket;

/// The largest body that anybody may send who has not said who it is: many of them are held at once.
const PUBLIC_BODY_BYTES_MAX: usize = 256 << 10;

/// Argument lists that begin with a permit, for handlers of one to six arguments. Sealed.
pub trait Guarded: sealed::Sealed {
    /// The action that the permit is for.
    type Act: Act;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! guarded {
    ($(($($argument:ident),*);)+) => {$(
        impl<M, A: Act, $($argument),*> sealed::Sealed for (M, Permit<A>, $($argument,)*) {}
        impl<M, A: Act, $($argument),*> Guarded for (M, Permit<A>, $($argument,)*) {
            type Act = A;
        }
    )+};
}

guarded! {
    ();
    (T1);
    (T1, T2);
    (T1, T2, T3);
    (T1, T2, T3, T4);
    (T1, T2, T3, T4, T5);
}

/// One method of one path.
pub struct Route<S> {
    entry: Entry,
    handler: MethodRouter<S>,
}

/// A route as it is listed and described, whoever's state it needs.
#[derive(Clone, Debug)]
pub struct Entry {
    method: &'static str,
    path: &'static str,
    action: Option<(&'static str, Access)>,
    pub(crate) operation: Operation,
}

impl Entry {
    /// `GET`, or `ANY`.
    pub const fn method(&self) -> &'static str {
        self.method
    }
    /// `/v1/runs/{id}`.
    pub const fn path(&self) -> &'static str {
        self.path
    }
    /// The action's name and what it asks for; `None` for a public route.
    pub const fn action(&self) -> Option<(&'static str, Access)> {
        self.action
    }
}

impl<S> Route<S> {
    const fn new(
        (method, path): (&'static str, &'static str),
        action: Option<(&'static str, Access)>,
        handler: MethodRouter<S>,
        operation: Operation,
    ) -> Self {
        Self { entry: Entry { method, path, action, operation }, handler }
    }

    /// As it is listed and described.
    pub const fn entry(&self) -> &Entry {
        &self.entry
    }
    /// `GET`, or `ANY`.
    pub const fn method(&self) -> &'static str {
        self.entry.method
    }
    /// `/v1/runs/{id}`.
    pub const fn path(&self) -> &'static str {
        self.entry.path
    }
    /// The action's name and what it asks for; `None` for a public route.
    pub const fn action(&self) -> Option<(&'static str, Access)> {
        self.entry.action
    }

    /// The same, taking these parameters in its query.
    pub fn takes(mut self, params: &[Param]) -> Self {
        self.entry.operation.query.extend(params);
        self
    }

    /// The same, refusing in these ways as well, which neither its arguments nor its method say.
    pub fn refuses(mut self, kinds: &[Kind]) -> Self {
        self.entry.operation.refuses(kinds);
        self
    }

    /// The same, reading `If-Match`, which neither its method nor its answer says.
    pub const fn conditional(mut self) -> Self {
        self.entry.operation.conditional();
        self
    }

    /// The same, reading `Prefer: wait`.
    pub const fn waits(mut self) -> Self {
        self.entry.operation.waits();
        self
    }

    /// The same, answering with a `T`, which its handler's type does not say.
    pub fn answers<T: Answers>(mut self) -> Self {
        self.entry.operation.also::<T>();
        self
    }

    /// The same, wording its errors in this shape.
    pub fn shaped(mut self, shape: Shape) -> Self
    where
        S: Clone + Send + Sync + 'static,
    {
        self.handler = self.handler.layer(map_response(move |mut response: Response| async move {
            response.extensions_mut().insert(shape);
            response
        }));
        self.entry.operation.shaped();
        self
    }

    /// The same, reading a body that its handler takes as it comes.
    pub fn reads(mut self, schema: Value) -> Self {
        self.entry.operation.reads(schema);
        self
    }

    /// The same, passing on what somebody else answers, whatever its status.
    pub fn passes_on(mut self, about: &'static str) -> Self {
        self.entry.operation.passes_on(about);
        self
    }

    /// The same, answering with a file of this media type.
    pub fn sends(mut self, media: &'static str, about: &'static str) -> Self {
        self.entry.operation.file(media, about);
        self
    }

    /// The same, answering with a stream of events.
    pub fn streams(mut self, about: &'static str) -> Self {
        self.entry.operation.event_stream(about);
        self
    }
}

macro_rules! verbs {
    ($($name:ident $public:ident $text:literal $filter:ident;)+) => {$(
        #[doc = concat!("`", $text, " path` for those who hold the permit that `handler` takes.")]
        pub fn $name<H, T, S>(path: &'static str, summary: &'static str, handler: H) -> Route<S>
        where
            H: Handler<T, S> + Call<T>,
            T: Guarded + 'static,
            S: Clone + Send + Sync + 'static,
        {
            let action = Some((T::Act::NAME, T::Act::ACCESS));
            let operation = Operation::of::<H, T>(summary);
            Route::new(($text, path), action, on(MethodFilter::$filter, handler), operation)
        }

        #[doc = concat!("`", $text, " path` for everybody.")]
        pub fn $public<H, T, S>(path: &'static str, summary: &'static str, handler: H) -> Route<S>
        where
            H: Handler<T, S> + Call<T>,
            T: 'static,
            S: Clone + Send + Sync + 'static,
        {
            let operation = Operation::of::<H, T>(summary);
            let handler = on(MethodFilter::$filter, handler).layer(DefaultBodyLimit::max(PUBLIC_BODY_BYTES_MAX));
            Route::new(($text, path), None, handler, operation)
        }
    )+};
}

verbs! {
    get_route public_get "GET" GET;
    fresh_post_route public_post "POST" POST;
    put_route public_put "PUT" PUT;
    patch_route public_patch "PATCH" PATCH;
    delete_route public_delete "DELETE" DELETE;
}

/// `POST path` for those who hold the permit that `handler` takes, once for each `Idempotency-Key`.
pub fn post_route<H, T, S>(path: &'static str, summary: &'static str, handler: H) -> Route<S>
where
    H: Handler<T, S> + Call<T>,
    T: Guarded + 'static,
    S: Remembers,
{
    let action = Some((T::Act::NAME, T::Act::ACCESS));
    let handler = move |State(state): State<S>, request: Request| {
        let handler = handler.clone();
        async move {
            let inner = state.clone();
            let handle = move |request| handler.call(request, inner);
            idempotency::once::<T::Act, S, _>(&state, request, handle).await
        }
    };
    let operation = Operation::of::<H, T>(summary).keyed();
    Route::new(("POST", path), action, on(MethodFilter::POST, handler), operation)
}

/// The same, with an answer that is held for a client that would wait until what it is about is over.
pub fn held_post_route<H, T, S>(path: &'static str, summary: &'static str, handler: H) -> Route<S>
where
    H: Handler<T, S> + Call<T>,
    T: Guarded + 'static,
    S: Holds,
{
    let action = Some((T::Act::NAME, T::Act::ACCESS));
    let handler = move |State(state): State<S>, request: Request| {
        let handler = handler.clone();
        let inner = state.clone();
        async move {
            let wish = prefer::wait(request.headers());
            let handle = move |request| handler.call(request, inner);
            let answer = idempotency::once::<T::Act, S, _>(&state, request, handle).await;
            prefer::hold(&state, wish, answer).await
        }
    };
    let operation = Operation::of::<H, T>(summary).keyed();
    let route = Route::new(("POST", path), action, on(MethodFilter::POST, handler), operation);
    route.waits()
}

/// `GET path`, an event stream, for those who hold the permit that `handler` takes. A ticket in the address does for a
/// credential here, and on no other route.
pub fn stream_route<H, T, S>(path: &'static str, summary: &'static str, handler: H) -> Route<S>
where
    H: Handler<T, S> + Call<T>,
    T: Guarded + 'static,
    S: Clone + Send + Sync + 'static,
{
    let action = Some((T::Act::NAME, T::Act::ACCESS));
    let handler = move |State(state): State<S>, mut request: Request| {
        ticket::take(&mut request);
        handler.clone().call(request, state)
    };
    let operation = Operation::of::<H, T>(summary).streaming();
    Route::new(("GET", path), action, on(MethodFilter::GET, handler), operation)
}

/// `path` with any method, for everybody.
pub fn public_any<H, T, S>(path: &'static str, summary: &'static str, handler: H) -> Route<S>
where
    H: Handler<T, S> + Call<T>,
    T: 'static,
    S: Clone + Send + Sync + 'static,
{
    let operation = Operation::of::<H, T>(summary);
    Route::new(("ANY", path), None, any(handler), operation)
}

/// A router of these routes. Two routes of one method and path are a mistake that panics at start, in every test.
pub fn mount<S: Clone + Send + Sync + 'static>(routes: Vec<Route<S>>) -> Router<S> {
    routes.into_iter().fold(Router::new(), |router, mut route| {
        if route.entry.method == "POST" && route.entry.operation.ignores_keys() {
            // Who sent one would take it that nothing is done twice.
            route.handler = route.handler.layer(map_request(|request: Request| {
                idempotency::tell_unread(&request);
                ready(request)
            }));
        }
        let handler = if route.entry.operation.query.is_empty() {
            route.handler
        } else {
            // A filter that nobody reads would pass for one that holds.
            let known: Arc<[Param]> = route.entry.operation.query.into();
            route.handler.layer(map_request(move |request: Request| {
                query::tell_unread(&request, &known);
                ready(request)
            }))
        };
        router.route(route.entry.path, handler)
    })
}

/// The table for `golden/routes.txt`: method, path, the codes of success and action, sorted by path.
pub fn table<S>(routes: &[Route<S>]) -> String {
    let mut lines: Vec<_> = routes.iter().collect();
    lines.sort_by_key(|route| (route.path(), route.method()));
    let line = |route: &&Route<S>| {
        let action = route.action().map_or("public", |(name, _)| name);
        let codes = route.entry.operation.successes();
        format!("{:<6} {:<44} {codes:<11} {action}\n", route.method(), route.path())
    };
    lines.iter().map(line).collect()
}
