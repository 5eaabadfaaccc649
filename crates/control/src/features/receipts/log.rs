//! The tenant's log: its signed head, its tiles where C2SP tlog-tiles has them, and proofs for whoever does not want to
//! compute them.

use axum::body::Body as Bytes;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, header};
use lantern_edge::openapi::{Kind, Param};
use lantern_edge::route::get_route;
use lantern_edge::{Code, Error, Json, Params, Path, Refusal, Result, Route};
use lantern_policy::action::ReadReceipts;
use lantern_policy::{Permit, Scope};
use lantern_receipts::tile;
use lantern_store::receipts;
use serde::Serialize;
use utoipa::ToSchema;

use super::not_in_the_log;
use crate::App;

const SIZE: Param = Param {
    name: "size",
    about: "How many leaves the tree has. The newest signed head's when it is left out.",
    kind: Kind::From(1),
};
const INDEX: Param =
    Param { name: "index", about: "The leaf. The last one when it is left out.", kind: Kind::From(0) };
const FROM: Param = Param {
    name: "from",
    about: "The size of the earlier tree. One leaf when it is left out.",
    kind: Kind::From(1),
};

/// What a log that is shorter, or not begun, has to say.
const NOTHING_THERE: &[Refusal] = &[Refusal::NotFound];

pub(super) fn table() -> Vec<Route<App>> {
    vec![
        get_route("/v1/receipts/log", "How far the tenant's log has come", head).refuses(NOTHING_THERE),
        get_route("/v1/receipts/log/checkpoint", "The signed head of the log, as a signed note", checkpoint)
            .takes(&[SIZE])
            .refuses(NOTHING_THERE),
        get_route(
            "/v1/receipts/log/tile/{*path}",
            "A tile of the log, such as `0/x001/067` or `entries/000.p/8`",
            tile,
        )
        .answers::<String>()
        .refuses(NOTHING_THERE),
        get_route("/v1/receipts/log/inclusion", "The proof that a leaf is in the log", inclusion)
            .takes(&[INDEX, SIZE])
            .refuses(NOTHING_THERE),
        get_route("/v1/receipts/log/consistency", "The proof that the log only grew", consistency)
            .takes(&[FROM, SIZE])
            .refuses(NOTHING_THERE),
    ]
}

/// How far a log has come.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReceiptLog)]
struct Head {
    /// The log's name.
    origin: String,
    /// How many receipts were issued; they are numbered from 0, without gaps.
    size: u64,
    /// The newest signed head.
    checkpoint: String,
}

/// A proof.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LogProof)]
struct Proof {
    /// How many leaves the tree has that it leads to.
    size: u64,
    /// In base64, in the order of RFC 9162.
    hashes: Vec<String>,
}

async fn head(permit: Permit<ReadReceipts>, State(app): State<App>) -> Result<Json<Head>> {
    let scope = permit.scope();
    let found = receipts::head(&app.db, scope).await?.ok_or_else(not_in_the_log)?;
    let checkpoint = receipts::checkpoint(&app.db, scope, None).await?.ok_or_else(not_in_the_log)?;
    Ok(Json(Head { origin: found.origin, size: found.size, checkpoint }))
}

async fn checkpoint(permit: Permit<ReadReceipts>, State(app): State<App>, params: Params) -> Result<String> {
    let size = number(&params, "size")?;
    receipts::checkpoint(&app.db, permit.scope(), size).await?.ok_or_else(not_in_the_log)
}

async fn tile(
    permit: Permit<ReadReceipts>,
    State(app): State<App>,
    Path(path): Path<String>,
) -> Result<Response> {
    let (asked, width) = tile::parse(&format!("tile/{path}")).ok_or_else(not_in_the_log)?;
    let hashes = receipts::tile(&app.db, permit.scope(), asked, width).await?.ok_or_else(not_in_the_log)?;
    let bytes = if asked.kind == tile::Kind::Entries { tile::bundle(&hashes) } else { hashes };
    let mut response = Response::new(Bytes::from(bytes));
    let binary = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, binary);
    Ok(response)
}

async fn inclusion(
    permit: Permit<ReadReceipts>,
    State(app): State<App>,
    params: Params,
) -> Result<Json<Proof>> {
    let (scope, size) = (permit.scope(), size(&app, permit.scope(), &params).await?);
    let index = number(&params, "index")?.unwrap_or_else(|| size.saturating_sub(1));
    let hashes = receipts::inclusion(&app.db, scope, index, size).await?;
    proof(size, hashes)
}

async fn consistency(
    permit: Permit<ReadReceipts>,
    State(app): State<App>,
    params: Params,
) -> Result<Json<Proof>> {
    let (scope, size) = (permit.scope(), size(&app, permit.scope(), &params).await?);
    let from = number(&params, "from")?.unwrap_or(1);
    let hashes = receipts::consistency(&app.db, scope, from, size).await?;
    proof(size, hashes)
}

async fn size(app: &App, scope: Scope, params: &Params) -> Result<u64> {
    match number(params, "size")? {
        Some(size) => Ok(size),
        None => Ok(receipts::head(&app.db, scope).await?.ok_or_else(not_in_the_log)?.size),
    }
}

fn proof(size: u64, hashes: Option<Vec<lantern_types::Digest>>) -> Result<Json<Proof>> {
    let hashes = hashes.ok_or_else(not_in_the_log)?;
    Ok(Json(Proof { size, hashes: hashes.iter().map(lantern_receipts::base64).collect() }))
}

fn number(params: &Params, name: &str) -> Result<Option<u64>> {
    let number = params.parsed::<u64>(name, "a whole number")?;
    // No log is so long, and its numbers are signed in the database.
    match number {
        Some(number) if number > i64::MAX.unsigned_abs() => {
            Err(Error::new(Code::InvalidQuery, "no log is so long").with_field(name, "too large"))
        }
        number => Ok(number),
    }
}
