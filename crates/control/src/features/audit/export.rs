//! The log as a file: JSON Lines that are hashed as they stand, or a table.
//!
//! Invariant: one page of it is in memory at a time. A cell of the table never begins with what spreadsheets take for a formula.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use futures_util::stream;
use http::{HeaderValue, header};
use lantern_edge::openapi::{Kind, Param};
use lantern_edge::{Params, Result};
use lantern_policy::action::ReadAudit;
use lantern_policy::{Permit, Scope};
use lantern_store::Db;
use lantern_store::audit::{self, Kept, chain};
use lantern_types::{Digest, TenantId};

use crate::App;
use crate::csv::cell;

const FORMATS: [&str; 2] = ["jsonl", "csv"];
const LIMIT_MAX: u32 = 10_000;

pub(super) const PARAMS: &[Param] = &[
    Param { name: "format", about: "`jsonl`, which it is without it, or `csv`.", kind: Kind::Word(&FORMATS) },
    Param { name: "after", about: "Only entries with a larger `id`.", kind: Kind::From(0) },
    Param {
        name: "limit",
        about: "At most so many; more than 10000 asks for 10000. All there are without it.",
        kind: Kind::From(1),
    },
];

const HEADINGS: &str = "id,at,actor,principalId,action,resource,outcome,status,code,times,before,after,requestId,\
    sourceAddress,prev,hash\n";

#[derive(Clone, Copy)]
enum Form {
    Lines,
    Table,
}

/// How far a file has come.
struct Cursor {
    db: Db,
    scope: Scope,
    form: Form,
    after: i64,
    /// The hash of the entry before; `None` when it has to be looked up.
    prev: Option<Digest>,
    left: u64,
    begun: bool,
}

pub(super) async fn export(
    permit: Permit<ReadAudit>,
    State(app): State<App>,
    params: Params,
) -> Result<Response> {
    let form = if params.word("format", &FORMATS)? == Some("csv") { Form::Table } else { Form::Lines };
    let after = params.parsed::<u32>("after", "a whole number")?.map_or(0, i64::from);
    let left = params.at_most("limit", LIMIT_MAX)?.map_or(u64::MAX, u64::from);
    let mut cursor =
        Cursor { db: app.db.clone(), scope: permit.scope(), form, after, prev: None, left, begun: false };
    // The first page decides how it is answered; what fails later cuts the file off.
    let first = cursor.next().await?.unwrap_or_default();
    let rest = stream::unfold(cursor, |mut cursor| async move {
        cursor.next().await.transpose().map(|page| (page, cursor))
    });
    let rest = Box::pin(rest);
    let body = stream::StreamExt::chain(stream::iter([Ok(first)]), rest);
    let mut response = Response::new(Body::from_stream(body));
    let media = match form {
        Form::Lines => HeaderValue::from_static("application/x-ndjson"),
        Form::Table => HeaderValue::from_static("text/csv; charset=utf-8"),
    };
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    Ok(response)
}

impl Cursor {
    /// The next piece of the file; `None` at its end.
    async fn next(&mut self) -> lantern_store::Result<Option<String>> {
        let mut text = match self.form {
            Form::Table if !self.begun && self.after == 0 => HEADINGS.to_owned(),
            _ => String::new(),
        };
        self.begun = true;
        let page =
            if self.left == 0 { Vec::new() } else { audit::after(&self.db, self.scope, self.after).await? };
        if page.is_empty() {
            return Ok((!text.is_empty()).then_some(text));
        }
        let mut prev = match self.prev {
            Some(prev) => prev,
            None => audit::hash_of(&self.db, self.scope, self.after).await?,
        };
        for kept in page {
            if self.left == 0 {
                break;
            }
            text += &match self.form {
                Form::Lines => line(self.scope.tenant(), &kept, prev),
                Form::Table => cells(&kept, prev),
            };
            (self.after, prev) = (kept.id, kept.hash);
            self.left -= 1;
        }
        self.prev = Some(prev);
        Ok(Some(text))
    }
}

fn line(tenant: TenantId, kept: &Kept, prev: Digest) -> String {
    chain::exported(&kept.entry.line(tenant, kept.id, prev), kept.hash) + "\n"
}

fn cells(kept: &Kept, prev: Digest) -> String {
    let entry = &kept.entry;
    let digest = |digest: Option<Digest>| digest.map(|digest| digest.to_string()).unwrap_or_default();
    let row = [
        kept.id.to_string(),
        entry.at.to_string(),
        cell(&entry.actor),
        entry.principal.map(|id| id.to_string()).unwrap_or_default(),
        cell(&entry.action),
        cell(&entry.resource),
        cell(&entry.outcome),
        entry.status.to_string(),
        cell(entry.code.as_deref().unwrap_or_default()),
        entry.times.to_string(),
        digest(entry.before),
        digest(entry.after),
        entry.request.to_string(),
        cell(entry.source.as_deref().unwrap_or_default()),
        prev.to_string(),
        kept.hash.to_string(),
    ];
    row.join(",") + "\n"
}
