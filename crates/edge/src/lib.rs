//! The HTTP edge that every front door shares: who asks, what they may, what they sent, how they are answered.
//!
//! ```text
//! request.rs   id, span, measurements, rendering of errors      around every request
//! permit.rs    authenticate (auth.rs, token.rs, cookie.rs, ticket.rs; refresh.rs for what renews a token),
//!              then authorize                                    before every handler that is not public
//!              totp.rs computes the codes of a second factor
//! body.rs      bounded JSON (json.rs) into a model               query.rs and page.rs likewise for the query
//! problem.rs   an error's status and body                        code.rs lists every code
//! sse.rs       event streams, as long as pass.rs lets them         serve.rs connections and their end
//! unread.rs    what is answered when the HTTP library cannot read a request
//! idempotency.rs   what is answered when a POST is sent again      around every POST that is not public
//! openapi/     what the API says of itself, from its routes
//! audit/       what every request and every denial leaves in its tenant's log     proxy.rs   where a request comes from
//! cors.rs      which web pages may call                          leftover.rs what a refused request still sends
//! ```
//!
//! Invariant: knows no resource and no business rule. Status numbers stand in `problem.rs` and `reply.rs` alone.

#![warn(missing_docs)]

pub mod audit;
pub mod auth;
pub mod body;
pub mod code;
pub mod cookie;
pub mod cors;
pub mod etag;
pub mod fields;
pub mod idempotency;
pub mod json;
mod leftover;
pub mod limit;
pub mod metrics;
pub mod openapi;
pub mod page;
pub mod pass;
mod permit;
pub mod prefer;
pub mod problem;
mod proxy;
pub mod query;
pub mod refresh;
pub mod reply;
pub mod request;
pub mod route;
pub mod serve;
pub mod sse;
pub mod ticket;
pub mod token;
pub mod totp;
mod unread;

pub use audit::Witness;
pub use auth::Gate;
pub use body::{Body, Model, Raw};
pub use code::{Code, Kind as Refusal};
pub use cors::Cors;
pub use fields::{Change, Fields};
pub use metrics::Metrics;
pub use page::{Page, Paging};
pub use pass::Pass;
pub use permit::permit;
pub use problem::{Error, FieldError, Result, Shape, Told};
pub use query::{Params, Path};
pub use reply::{
    Accepted, Created, CreatedAll, Either, Found, Json, NoContent, NotReady, OverBudget, WithCookie,
};
pub use request::Heard;
pub use route::{Entry, Route};
pub use serve::serve;
