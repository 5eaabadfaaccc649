//! What answers say of a route: each kind names its status, its media type and its schema.

use axum::Extension;
use axum::response::{Html, Response};
use serde_json::json;
use utoipa::ToSchema;

use super::Operation;
use crate::etag::{Live, Versioned};
use crate::page::Page;
use crate::problem::Error;
use crate::reply::{
    self, Accepted, Created, CreatedAll, Either, Found, Json, NoContent, NotReady, OverBudget, WithCookie,
};

/// Something that a handler answers with, and what that says of the response.
pub trait Answers {
    /// Adds what it says.
    fn describe(operation: &mut Operation);
}

impl<T: Answers> Answers for Result<T, Error> {
    fn describe(operation: &mut Operation) {
        T::describe(operation);
    }
}

impl<X, T: Answers> Answers for (Extension<X>, T) {
    fn describe(operation: &mut Operation) {
        T::describe(operation);
    }
}

/// It only ever refuses.
impl Answers for std::convert::Infallible {
    fn describe(_: &mut Operation) {}
}

impl<A: Answers, B: Answers> Answers for Either<A, B> {
    fn describe(operation: &mut Operation) {
        A::describe(operation);
        B::describe(operation);
    }
}

impl<T: Answers> Answers for WithCookie<T> {
    fn describe(operation: &mut Operation) {
        T::describe(operation);
    }
}

impl<T: Answers> Answers for Versioned<T> {
    fn describe(operation: &mut Operation) {
        operation.versioned = true;
        T::describe(operation);
    }
}

impl<T: Answers> Answers for Live<T> {
    fn describe(operation: &mut Operation) {
        operation.live = true;
        <Versioned<T> as Answers>::describe(operation);
    }
}

/// What it is the route must say itself, with [`Route::answers`](crate::Route::answers).
impl Answers for Response {
    fn describe(_: &mut Operation) {}
}

impl<T: ToSchema> Answers for Json<T> {
    fn describe(operation: &mut Operation) {
        let schema = operation.schema::<T>();
        operation.answer(reply::OK, "Done.", Some(("application/json", schema)));
    }
}

impl<T: ToSchema> Answers for Page<T> {
    fn describe(operation: &mut Operation) {
        let items = operation.schema::<T>();
        let list = json!({ "type": "array", "items": items });
        operation.answer(
            reply::OK,
            "A page, newest first unless the route says otherwise. A `Link` header with `rel=\"next\"` leads to the \
             next one, and `X-Next-Cursor` has its cursor; without them it is the last. A page may have fewer entries than its limit, or none, and be followed by another.",
            Some(("application/json", list)),
        );
    }
}

impl<T: ToSchema> Answers for Created<T> {
    fn describe(operation: &mut Operation) {
        let schema = operation.schema::<T>();
        operation.answer(
            reply::CREATED,
            "Made. `Location` says where it is.",
            Some(("application/json", schema)),
        );
    }
}

impl<T: ToSchema> Answers for Accepted<T> {
    fn describe(operation: &mut Operation) {
        let schema = operation.schema::<T>();
        operation.answer(reply::ACCEPTED, "Accepted.", Some(("application/json", schema)));
    }
}

impl<T: ToSchema> Answers for OverBudget<T> {
    fn describe(operation: &mut Operation) {
        let schema = operation.schema::<T>();
        operation.answer(
            reply::OVER_BUDGET,
            "The same, of what would cost more than it may.",
            Some(("application/json", schema)),
        );
    }
}

impl<T: ToSchema> Answers for CreatedAll<T> {
    fn describe(operation: &mut Operation) {
        let items = operation.schema::<T>();
        let list = json!({ "type": "array", "items": items });
        operation.answer(reply::CREATED, "Made, in the order asked.", Some(("application/json", list)));
    }
}

impl Answers for NoContent {
    fn describe(operation: &mut Operation) {
        operation.answer(reply::NO_CONTENT, "Done; there is nothing to say.", None);
    }
}

impl Answers for Found {
    fn describe(operation: &mut Operation) {
        operation.answer(reply::FOUND, "`Location` says where a browser goes on.", None);
    }
}

impl Answers for NotReady {
    fn describe(operation: &mut Operation) {
        let text = json!({ "type": "string" });
        operation.answer(reply::NOT_READY, "Not now, and why.", Some(("text/plain", text)));
    }
}

impl Answers for &'static str {
    fn describe(operation: &mut Operation) {
        operation.answer(reply::OK, "Text.", Some(("text/plain", json!({ "type": "string" }))));
    }
}

impl Answers for String {
    fn describe(operation: &mut Operation) {
        <&'static str>::describe(operation);
    }
}

impl<T> Answers for Html<T> {
    fn describe(operation: &mut Operation) {
        operation.answer(reply::OK, "A page.", Some(("text/html", json!({ "type": "string" }))));
    }
}
