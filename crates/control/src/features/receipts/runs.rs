//! The receipt of a run.

use axum::body::Body as Bytes;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, header};
use lantern_edge::openapi::PAGING;
use lantern_edge::route::{fresh_post_route, get_route};
use lantern_edge::{Code, Error, Json, Page, Paging, Params, Path, Refusal, Result, Route};
use lantern_policy::action::ReadReceipts;
use lantern_policy::{Permit, Scope};
use lantern_receipts::{Payload, Written, attestation};
use lantern_store::receipts::{self, Issued};
use lantern_store::{Vault, journal};
use lantern_types::{At, Digest, RunId};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::not_in_the_log;
use crate::App;
use crate::features::runs::model;

/// Appends that are read at once.
const PAGE: u32 = 256;

pub(super) fn table() -> Vec<Route<App>> {
    vec![
        get_route("/v1/receipts", "List receipts, the newest first", list).takes(&PAGING),
        fresh_post_route("/v1/runs/{id}/receipt", "Read the receipt of a run that is over", read)
            .refuses(&[Refusal::Conflict]),
        get_route("/v1/runs/{id}/receipt", "Read the receipt of a run that is over", read)
            .refuses(&[Refusal::Conflict]),
        get_route(
            "/v1/runs/{id}/receipt/file",
            "The receipt with the events that it is about, as one file",
            file,
        )
        .answers::<Json<Signed>>()
        .refuses(&[Refusal::Conflict]),
        get_route(
            "/v1/runs/{id}/receipt/attestation",
            "What the receipt says as a statement of in-toto, in a DSSE envelope",
            attestation,
        )
        .answers::<Json<Envelope>>()
        .refuses(&[Refusal::Conflict]),
    ]
}

/// A receipt. Its members stand in this order, and as a file it also has `appends`: the events of the run, byte for byte.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SignedReceipt)]
struct Signed {
    /// `Ed25519`.
    algorithm: &'static str,
    /// The signed head of the log, in the form of C2SP tlog-checkpoint.
    checkpoint: String,
    /// Which of the published keys signed.
    key_id: String,
    /// What was signed: exactly these bytes.
    #[schema(value_type = Object)]
    payload: Box<RawValue>,
    /// The hashes from the payload's leaf to the head, in base64.
    proof: Vec<String>,
    /// The key, in base64. Trust it because it is published, and not because it stands here.
    public_key: String,
    /// Over the payload, in base64.
    signature: String,
}

/// A DSSE envelope.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DsseEnvelope)]
struct Envelope {
    /// The statement, in base64.
    payload: String,
    /// `application/vnd.in-toto+json`.
    payload_type: &'static str,
    signatures: Vec<EnvelopeSignature>,
}

/// Over the type and the statement.
#[derive(Serialize, ToSchema)]
#[schema(as = DsseSignature)]
struct EnvelopeSignature {
    /// Which of the published keys signed.
    keyid: String,
    /// In base64.
    sig: String,
}

/// A receipt in a list.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReceiptEntry)]
struct Entry {
    /// Its number in the log.
    log_index: u64,
    #[schema(value_type = String, format = "uuid")]
    run_id: RunId,
    agent_name: String,
    /// How the run ended.
    status: String,
    cost_usd: f64,
    issued_at: String,
    key_id: String,
}

async fn list(permit: Permit<ReadReceipts>, State(app): State<App>, params: Params) -> Result<Page<Entry>> {
    let paging = Paging::of(&params)?;
    // Numbers have no gaps, so that of the last one is where the next page begins.
    let below = paging.before.map(|(at, _)| at.micros().unsigned_abs());
    let rows = receipts::list(&app.db, permit.scope(), below, paging.fetch()).await?;
    let place =
        |row: &Issued| (At::from_micros(i64::try_from(row.index).unwrap_or(i64::MAX)), row.run.uuid());
    Page::cut(rows, &paging, &params, place).try_map(|row| entry(&row))
}

fn entry(row: &Issued) -> Result<Entry> {
    let payload: Payload = serde_json::from_str(&row.payload).map_err(Error::internal)?;
    Ok(Entry {
        log_index: row.index,
        run_id: row.run,
        agent_name: payload.agent_name,
        status: payload.status,
        cost_usd: payload.cost_micro_usd.to_wire(),
        issued_at: row.at.to_string(),
        key_id: row.key.id(),
    })
}

async fn read(
    permit: Permit<ReadReceipts>,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Signed>> {
    let written = written(&app, permit.scope(), run(&id)?).await?;
    let value = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(Error::internal);
    let payload = RawValue::from_string(value(written.payload)?).map_err(Error::internal)?;
    Ok(Json(Signed {
        algorithm: lantern_receipts::ALGORITHM,
        checkpoint: written.checkpoint,
        key_id: written.key.id(),
        payload,
        proof: written.proof.iter().map(lantern_receipts::base64).collect(),
        public_key: written.key.to_string(),
        signature: written.signature.to_string(),
    }))
}

async fn file(
    permit: Permit<ReadReceipts>,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response> {
    let (scope, run) = (permit.scope(), run(&id)?);
    let written = written(&app, scope, run).await?;
    let bytes = written.bytes(Some(&appends(&app, scope, run).await?)).map_err(Error::internal)?;
    Ok(json(bytes))
}

async fn attestation(
    permit: Permit<ReadReceipts>,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response> {
    let issued = issued(&app, permit.scope(), run(&id)?).await?;
    let envelope = attestation::envelope(&issued.payload, &issued.attested, &issued.key);
    Ok(json(envelope.map_err(Error::internal)?))
}

/// Bytes that are JSON already.
fn json(bytes: Vec<u8>) -> Response {
    let mut response = Response::new(Bytes::from(bytes));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The run's events as they are stored, each append with the digest of its body.
async fn appends(app: &App, scope: Scope, run: RunId) -> Result<Vec<(Vec<u8>, Digest)>> {
    let (mut appends, mut from) = (Vec::new(), 1);
    loop {
        let page = journal::read(&app.db, scope, run, from, PAGE).await?;
        let Some(last) = page.last() else { return Ok(appends) };
        from = last.first_seq.saturating_add(last.n);
        for stored in page {
            let digest = stored.body.as_deref().map_or_else(|| Ok(Digest::of(&[])), Vault::digest)?;
            appends.push((stored.bytes, digest));
        }
    }
}

/// The run's receipt with its proof.
async fn written(app: &App, scope: Scope, run: RunId) -> Result<Written> {
    let issued = issued(app, scope, run).await?;
    receipts::written(&app.db, scope, &issued).await?.ok_or_else(not_in_the_log)
}

/// The run's receipt, issued now if it has none yet.
async fn issued(app: &App, scope: Scope, run: RunId) -> Result<Issued> {
    if let Some(issued) = app.notary.receipt(scope, run, app.clock.now()).await? {
        return Ok(issued);
    }
    let row = journal::head(&app.db, scope, run).await?.ok_or_else(model::not_found)?;
    Err(match row.finished_at {
        None => Error::new(Code::RunNotFinished, "the run is not over: its receipt is issued when it is"),
        Some(_) => Error::new(Code::RunUnreadable, "the run's journal cannot be read, so it has no receipt"),
    })
}

/// What is no id names no run.
fn run(id: &str) -> Result<RunId> {
    id.parse().map_err(|_| model::not_found())
}
