//! What handlers answer with. The status is the type's, so that no handler names a number.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::idempotency;
use crate::problem::Error;

/// The statuses of what follows, for the description of the API.
pub(crate) const OK: u16 = StatusCode::OK.as_u16();
pub(crate) const CREATED: u16 = StatusCode::CREATED.as_u16();
pub(crate) const ACCEPTED: u16 = StatusCode::ACCEPTED.as_u16();
pub(crate) const NO_CONTENT: u16 = StatusCode::NO_CONTENT.as_u16();
pub(crate) const FOUND: u16 = StatusCode::FOUND.as_u16();
pub(crate) const NOT_MODIFIED: u16 = StatusCode::NOT_MODIFIED.as_u16();
pub(crate) const OVER_BUDGET: u16 = StatusCode::PAYMENT_REQUIRED.as_u16();
pub(crate) const NOT_READY: u16 = StatusCode::SERVICE_UNAVAILABLE.as_u16();

/// 200 with JSON.
#[derive(Debug)]
pub struct Json<T>(pub T);

/// 201 with JSON, and where the new thing is.
#[derive(Debug)]
pub struct Created<T> {
    /// What was made.
    pub body: T,
    /// Its path.
    pub location: String,
}

/// 202 with JSON: what was asked for is durable, and is done by and by.
#[derive(Debug)]
pub struct Accepted<T>(pub T);

/// 201 with a JSON list, when several things were made.
#[derive(Debug)]
pub struct CreatedAll<T> {
    /// What was made, in the order asked.
    pub all: Vec<T>,
    /// Whether an earlier request with the same key made them.
    pub replayed: bool,
}

/// 204.
#[derive(Debug)]
pub struct NoContent;

/// 302: a browser goes on there.
#[derive(Debug)]
pub struct Found {
    /// The `Location` header.
    pub location: HeaderValue,
}

/// An answer that sets a cookie.
#[derive(Debug)]
pub struct WithCookie<T> {
    /// The `Set-Cookie` header.
    pub cookie: HeaderValue,
    /// The answer.
    pub answer: T,
}

/// 503 in plain words, for load balancers.
#[derive(Debug)]
pub struct NotReady(pub &'static str);

/// 402 with JSON: what was asked about would cost more than it may.
#[derive(Debug)]
pub struct OverBudget<T>(pub T);

/// One of two answers.
#[derive(Debug)]
pub enum Either<A, B> {
    /// The first.
    A(A),
    /// The second.
    B(B),
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => {
                let mut response = Response::new(Body::from(bytes));
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(header::CONTENT_TYPE, json);
                response
            }
            Err(error) => Error::internal(error).into_response(),
        }
    }
}

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.body).into_response();
        if response.status() == StatusCode::OK {
            *response.status_mut() = StatusCode::CREATED;
            if let Ok(location) = HeaderValue::from_str(&self.location) {
                response.headers_mut().insert(header::LOCATION, location);
            }
        }
        response
    }
}

impl<T: Serialize> IntoResponse for OverBudget<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.0).into_response();
        if response.status() == StatusCode::OK {
            *response.status_mut() = StatusCode::PAYMENT_REQUIRED;
        }
        response
    }
}

impl<T: Serialize> IntoResponse for Accepted<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.0).into_response();
        if response.status() == StatusCode::OK {
            *response.status_mut() = StatusCode::ACCEPTED;
        }
        response
    }
}

impl<T: Serialize> IntoResponse for CreatedAll<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.all).into_response();
        if response.status() == StatusCode::OK {
            *response.status_mut() = StatusCode::CREATED;
        }
        if self.replayed { idempotency::replayed(response) } else { response }
    }
}

impl IntoResponse for NoContent {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

impl IntoResponse for Found {
    fn into_response(self) -> Response {
        let mut response = StatusCode::FOUND.into_response();
        response.headers_mut().insert(header::LOCATION, self.location);
        response
    }
}

impl<T: IntoResponse> IntoResponse for WithCookie<T> {
    fn into_response(self) -> Response {
        let mut response = self.answer.into_response();
        response.headers_mut().append(header::SET_COOKIE, self.cookie);
        response
    }
}

impl IntoResponse for NotReady {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, self.0).into_response()
    }
}

impl<A: IntoResponse, B: IntoResponse> IntoResponse for Either<A, B> {
    fn into_response(self) -> Response {
        match self {
            Self::A(a) => a.into_response(),
            Self::B(b) => b.into_response(),
        }
    }
}
