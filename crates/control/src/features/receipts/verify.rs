//! Whether a receipt that somebody shows is one of this server's.
//!
//! Open to everybody, and the only place that puts a receipt into its one byte form before it is checked: whoever relays one
//! may have reordered its members. Events are not checked here, so a receipt with events is refused rather than half believed.

use axum::extract::State;
use lantern_edge::route::public_post;
use lantern_edge::{Body, Code, Error, Fields, Json, Model, Result, Route};
use lantern_receipts::{ALGORITHM, File, Invalid, Payload, VERSION, VerifyKey, earlier, usd};
use lantern_types::MicroUsd;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::App;

/// Bytes of each text of a receipt.
const TEXT_MAX: usize = 64 << 10;

pub(super) fn table() -> Vec<Route<App>> {
    vec![public_post("/v1/runs/receipts/verify", "Whether a receipt is one of this server's", check)]
}

/// What is to be checked.
struct Shown {
    payload: Map<String, Value>,
    signature: String,
    algorithm: String,
    /// Every member, as they came.
    all: Map<String, Value>,
}

impl Model for Shown {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let algorithm = fields.required_text("algorithm", TEXT_MAX);
        let signature = fields.required_text("signature", TEXT_MAX);
        let payload = match fields.value("payload") {
            Some(Value::Object(payload)) => Some(payload.clone()),
            _ => {
                fields.issue("payload", "expected an object");
                None
            }
        };
        let mut all = Map::new();
        for name in ["appends", "checkpoint", "keyId", "proof", "publicKey"] {
            if let Some(value) = fields.value(name) {
                all.insert(name.to_owned(), value.clone());
            }
        }
        Some(Self { payload: payload?, signature: signature?, algorithm: algorithm?, all })
    }
}

/// What was found.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReceiptVerdict)]
struct Verdict {
    /// Whether one of this server's keys signed exactly this payload and, from version 2 on, whether it is in the log.
    valid: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<String>,
}

async fn check(State(app): State<App>, Body(shown): Body<Shown>) -> Result<Json<Verdict>> {
    if shown.algorithm != ALGORITHM {
        let error = Error::new(Code::UnsupportedAlgorithm, "unsupported algorithm");
        return Err(error.with_extra("received", shown.algorithm));
    }
    let keys: Vec<VerifyKey> =
        app.notary.published().await?.into_iter().map(|published| published.key).collect();
    let text = |name: &str| shown.payload.get(name).and_then(Value::as_str).map(str::to_owned);
    Ok(Json(match checked(&shown, &keys) {
        Ok(()) => Verdict {
            valid: true,
            reason: None,
            run_id: text("runId"),
            issued_at: text("issuedAt"),
            tenant_id: text("tenantId"),
        },
        // Nothing of the payload: it is not known to be true.
        Err(Invalid(reason)) => {
            Verdict { valid: false, reason: Some(reason), run_id: None, issued_at: None, tenant_id: None }
        }
    }))
}

fn checked(shown: &Shown, keys: &[VerifyKey]) -> std::result::Result<(), Invalid> {
    match shown.payload.get("version").and_then(Value::as_u64) {
        Some(1) => earlier::check(&shown.payload, &shown.signature, keys),
        Some(VERSION) => second(shown, keys),
        _ => Err(Invalid::new("the receipt's version is not known")),
    }
}

fn second(shown: &Shown, keys: &[VerifyKey]) -> std::result::Result<(), Invalid> {
    if shown.all.contains_key("appends") {
        let words =
            "its events are not checked here: use `lantern verify` on the file, or send it without `appends`";
        return Err(Invalid::new(words));
    }
    let form = |_| Invalid::new("the receipt is not of the form of version 2");
    let payload = canonical(&shown.payload)?;
    let text = |name: &str| serde_json::to_string(shown.all.get(name).unwrap_or(&Value::Null)).map_err(form);
    let whole = format!(
        "{{\"algorithm\":\"{ALGORITHM}\",\"checkpoint\":{},\"keyId\":{},\"payload\":{payload},\"proof\":{},\"publicKey\":{},\
         \"signature\":{}}}",
        text("checkpoint")?,
        text("keyId")?,
        text("proof")?,
        text("publicKey")?,
        serde_json::to_string(&shown.signature).map_err(form)?,
    );
    let file = File::parse(whole.as_bytes())?;
    if !keys.contains(&file.public_key) {
        return Err(Invalid::new("it was not signed with a key of this server's"));
    }
    file.check().map(drop)
}

/// The payload in its one byte form. Amounts of dollars lose their digits on the way through JSON numbers: what stands there
/// must be the number that the whole amount beside it is.
fn canonical(payload: &Map<String, Value>) -> std::result::Result<String, Invalid> {
    let form = || Invalid::new("the payload is not of the form of version 2");
    let micros = payload.get("costMicroUsd").and_then(Value::as_i64).ok_or_else(form)?;
    let dollars = usd(MicroUsd::from_micros(micros));
    let said = payload.get("costUsd").and_then(Value::as_f64).ok_or_else(form)?;
    if dollars.parse::<f64>().map(f64::to_bits) != Ok(said.to_bits()) {
        return Err(Invalid::new("costUsd and costMicroUsd differ"));
    }
    let mut rest = payload.clone();
    rest.remove("costUsd");
    let rest = serde_json::to_string(&rest).map_err(|_| form())?;
    let text = format!("{{\"costUsd\":{dollars},{}", rest.strip_prefix('{').ok_or_else(form)?);
    let payload: Payload = serde_json::from_str(&text).map_err(|_| form())?;
    String::from_utf8(payload.bytes()?).map_err(|_| form())
}
