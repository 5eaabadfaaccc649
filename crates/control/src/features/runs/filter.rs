//! Which runs a list is about, as its query says it. Pure.
//!
//! Invariant: what a query says is all obeyed, or refused with the names of the filters that there are. What users said is
//! sealed, so no filter looks into inputs and outputs.

use lantern_edge::openapi::{Kind, PAGING, Param};
use lantern_edge::{Code, Error, Params, Result};
use lantern_store::journal::RunFilter;
use lantern_store::labels::Label;
use lantern_types::{At, Dur};

/// The contract's words for a run's status, then two that people use for the same.
const STATUSES: [&str; 8] =
    ["queued", "running", "paused", "succeeded", "failed", "cancelled", "completed", "canceled"];
/// The most labels that one query may ask for.
const LABELS_MAX: usize = 16;
/// The longest text that is searched for.
const SEARCH_BYTES_MAX: usize = 256;

/// The one that a path may say instead.
pub(super) const AGENT: Param =
    Param { name: "agent", about: "Runs of the agent of this name.", kind: Kind::Text };
/// What a list of runs takes besides its page and its agent.
pub(super) const FILTERS: &[Param] = &[
    Param {
        name: "status",
        about: "Runs that stand so: one of these, several with commas between them, or given several times.",
        kind: Kind::Words(&STATUSES),
    },
    Param { name: "sessionId", about: "Runs of this conversation.", kind: Kind::Id },
    Param { name: "parent", about: "Runs that this run started.", kind: Kind::Id },
    Param { name: "parentRunId", about: "The same as `parent`.", kind: Kind::Id },
    Param { name: "created[gte]", about: "Runs made then or later.", kind: Kind::Time },
    Param { name: "created[gt]", about: "Runs made later.", kind: Kind::Time },
    Param { name: "created[lt]", about: "Runs made before then.", kind: Kind::Time },
    Param { name: "created[lte]", about: "Runs made then or before.", kind: Kind::Time },
    Param {
        name: "label",
        about: "Runs with this label, as `key:value`. Given several times: with all of them. In a key, `:` is written \
                `\\:` and a backslash `\\\\`; a value stands as it is.",
        kind: Kind::Texts,
    },
    Param {
        name: "q",
        about: "Runs whose agent's name, or the value of one of whose labels, or whose id (from its eighth digit on) \
                begins so. Inputs and outputs are sealed and not searched.",
        kind: Kind::Text,
    },
];
/// Other names of `limit` and `cursor`, which some clients send to every list.
pub(super) const PAGING_TOO: [&str; 2] = ["pageSize", "pageToken"];

/// What a query asks for. The page is the caller's.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) filter: RunFilter,
    /// What runs are to be searched for.
    pub(super) search: Option<String>,
}

/// What a query asks of all runs.
pub(super) fn of_all(params: &Params) -> Result<Wanted> {
    let filters = [&[AGENT], FILTERS].concat();
    let agent = params.text(AGENT.name).map(ToOwned::to_owned);
    let wanted = read(params, &filters).map_err(|refused| with_names(refused, &filters))?;
    Ok(Wanted { filter: RunFilter { agent_name: agent, ..wanted.filter }, ..wanted })
}

/// What a query asks of the runs of this agent.
pub(super) fn of_agent(params: &Params, name: String) -> Result<Wanted> {
    let wanted = read(params, FILTERS).map_err(|refused| with_names(refused, FILTERS))?;
    Ok(Wanted { filter: RunFilter { agent_name: Some(name), ..wanted.filter }, ..wanted })
}

/// Says which filters there are.
fn with_names(refused: Error, filters: &[Param]) -> Error {
    let names: Vec<&str> = filters.iter().map(|filter| filter.name).collect();
    refused.with_extra("filters", names)
}

fn read(params: &Params, filters: &[Param]) -> Result<Wanted> {
    let (often, once): (Vec<Param>, Vec<Param>) = filters
        .iter()
        .chain(&PAGING)
        .copied()
        .partition(|filter| matches!(filter.kind, Kind::Texts | Kind::Words(_)));
    let names = |params: Vec<Param>| -> Vec<&str> { params.into_iter().map(|param| param.name).collect() };
    params.only(&[names(once), PAGING_TOO.to_vec()].concat(), &names(often))?;
    let parents = [params.parsed("parent", "a run id")?, params.parsed("parentRunId", "a run id")?];
    if let [Some(one), Some(other)] = parents
        && one != other
    {
        return Err(wrong("parentRunId", "says another run than `parent`"));
    }
    let [parent, same] = parents;
    let filter = RunFilter {
        statuses: statuses(params)?,
        session_id: params.parsed("sessionId", "a session id")?,
        parent_run_id: parent.or(same),
        labels: labels(params)?,
        // Times are whole microseconds, here and in the database.
        from: latest(time(params, "created[gte]")?, after(time(params, "created[gt]")?)),
        until: earliest(time(params, "created[lt]")?, after(time(params, "created[lte]")?)),
        ..RunFilter::default()
    };
    let search = params.text("q");
    if search.is_some_and(|text| text.len() > SEARCH_BYTES_MAX) {
        return Err(wrong("q", format!("expected at most {SEARCH_BYTES_MAX} bytes")));
    }
    Ok(Wanted { filter, search: search.map(ToOwned::to_owned) })
}

fn statuses(params: &Params) -> Result<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    for word in params.all("status").flat_map(|list| list.split(',')).map(str::trim) {
        if !STATUSES.contains(&word) {
            return Err(wrong("status", format!("expected one of {}", STATUSES.join(", "))));
        }
        let word = status(word).to_owned();
        if !found.contains(&word) {
            found.push(word);
        }
    }
    Ok(found)
}

/// The word that runs are stored with.
fn status(word: &str) -> &str {
    match word {
        "canceled" => "cancelled",
        "completed" => "succeeded",
        word => word,
    }
}

fn labels(params: &Params) -> Result<Vec<Label>> {
    let mut labels: Vec<Label> = Vec::new();
    for text in params.all("label") {
        let label = label(text).filter(|label| !label.key.is_empty());
        labels.push(label.ok_or_else(|| wrong("label", "expected key:value; a : in a key is written \\:"))?);
    }
    if labels.len() > LABELS_MAX {
        return Err(wrong("label", format!("expected at most {LABELS_MAX} labels")));
    }
    Ok(labels)
}

/// The label that a text asks for. In its key a backslash takes the meaning from a colon or from another backslash; before
/// anything else it is one, as in the value.
fn label(text: &str) -> Option<Label> {
    let mut key = String::new();
    let mut rest = text.chars();
    loop {
        let ahead = rest.as_str();
        match rest.next()? {
            ':' => return Some(Label { key, value: rest.as_str().to_owned() }),
            '\\' if ahead.starts_with("\\:") || ahead.starts_with("\\\\") => key.extend(rest.next()),
            other => key.push(other),
        }
    }
}

fn time(params: &Params, name: &str) -> Result<Option<At>> {
    params.parsed(name, "a time as 2026-01-31T12:00:00Z; a + in it is written %2B")
}

fn after(at: Option<At>) -> Option<At> {
    at.map(|at| at + Dur::from_micros(1))
}

fn latest(one: Option<At>, other: Option<At>) -> Option<At> {
    one.max(other)
}

fn earliest(one: Option<At>, other: Option<At>) -> Option<At> {
    one.into_iter().chain(other).min()
}

/// Refuses the parameter `name`.
pub(super) fn wrong(name: &str, message: impl Into<String>) -> Error {
    let message = message.into();
    Error::new(Code::InvalidQuery, format!("{name}: {message}")).with_field(name, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_have_colons() {
        for (text, want) in [
            ("env:prod", Some(("env", "prod"))),
            ("env:", Some(("env", ""))),
            ("note:re: a:b", Some(("note", "re: a:b"))),
            (r"a\:b:c:d", Some(("a:b", "c:d"))),
            (r"a\\:b:c", Some((r"a\", "b:c"))),
            (r"\::v", Some((":", "v"))),
            (r"C\dir:C:\dir\:x", Some((r"C\dir", r"C:\dir\:x"))),
            ("lantern.template:x", Some(("lantern.template", "x"))),
            (":v", Some(("", "v"))),
            (r"a\:b", None),
            ("env", None),
            ("", None),
        ] {
            let found = label(text);
            let found = found.as_ref().map(|label| (label.key.as_str(), label.value.as_str()));
            assert_eq!(found, want, "{text}");
        }
    }
}
