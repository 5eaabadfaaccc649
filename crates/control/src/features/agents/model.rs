//! What a request may say about an agent, and what becomes of the agent by it. Pure.

use lantern_edge::{Change, Code, Error, FieldError, Fields, Model, Result};
use lantern_engine::manifest::{Issue, StepDef};
use lantern_engine::{Manifest, StepKind, Terms};
use lantern_types::{AgentId, At, Digest, ToolDef, VersionId, nearest};
use serde_json::{Map, Value, json};

/// The names of the manifest's fields, each with the spellings that mean the same.
const MANIFEST_FIELDS: &[&[&str]] = &[
    &["program"],
    &["model"],
    &["strategy"],
    &["systemPrompt", "instructions"],
    &["tools"],
    &["maxTurns"],
    &["maxTokens"],
    &["temperature"],
    &["inputSchema"],
    &["outputSchema"],
    &["maxCostUsd"],
    &["timeout", "timeoutMs"],
    &["retry"],
    &["steps"],
];
const TEXT_BYTES_MAX: usize = 16 << 10;
const URL_BYTES_MAX: usize = 2_048;
const MANIFEST_BYTES_MAX: usize = 1 << 20;
const NAME_MAX: usize = 128;

/// An agent's row with its current version's manifest.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    pub(crate) id: AgentId,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) labels: Map<String, Value>,
    pub(crate) avatar_url: Option<String>,
    pub(crate) style_prompt: Option<String>,
    pub(crate) current: VersionId,
    pub(crate) created_by: Option<String>,
    pub(crate) created_at: At,
    pub(crate) updated_at: At,
    pub(crate) archived_at: Option<At>,
    /// Grows with every change of the row.
    pub(crate) revision: i64,
}

impl Agent {
    /// The manifest with what the row says of the agent, so that a version holds all that can be said.
    pub(crate) fn told(&self, manifest: Manifest) -> Manifest {
        let mut about = Map::new();
        let texts = [("description", &self.description), ("avatarUrl", &self.avatar_url)];
        for (name, text) in texts {
            about.extend(text.clone().map(|text| (name.to_owned(), Value::String(text))));
        }
        if !self.labels.is_empty() {
            about.insert("labels".to_owned(), Value::Object(self.labels.clone()));
        }
        let about = (!about.is_empty()).then_some(Value::Object(about));
        Manifest { style_prompt: self.style_prompt.clone(), about, ..manifest }
    }

    /// The same with what a version's manifest says of it: the other way round.
    pub(crate) fn retold(self, manifest: &Manifest) -> Self {
        let said = |name: &str| manifest.about.as_ref().and_then(|about| about.get(name));
        let text = |name: &str| said(name).and_then(Value::as_str).map(ToOwned::to_owned);
        Self {
            description: text("description"),
            avatar_url: text("avatarUrl"),
            labels: said("labels").and_then(Value::as_object).cloned().unwrap_or_default(),
            style_prompt: manifest.style_prompt.clone(),
            ..self
        }
    }
}

/// Which agents a list is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Those that can be run.
    Active,
    /// Those that were put away.
    Archived,
    /// Both.
    All,
}

impl Standing {
    /// The words for it.
    pub(crate) const WORDS: [&'static str; 3] = ["active", "archived", "all"];

    /// Reads one of the words; the active ones without any.
    pub(crate) fn parse(word: Option<&str>) -> Self {
        match word {
            Some("archived") => Self::Archived,
            Some("all") => Self::All,
            _ => Self::Active,
        }
    }
}

/// Which version of an agent a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The one of this number.
    Number(i64),
    /// The one of this id.
    Id(VersionId),
}

impl Wanted {
    /// A number from 1 on, or an id; nothing else names a version.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        if digits {
            return text.parse().ok().filter(|number| *number > 0).map(Self::Number);
        }
        text.parse().ok().map(Self::Id)
    }
}

/// The version an agent runs now.
#[derive(Clone, Debug)]
pub(crate) struct Current {
    pub(crate) number: i64,
    pub(crate) digest: Digest,
    pub(crate) manifest: Manifest,
}

/// What a request says about an agent.
#[derive(Debug)]
pub(crate) struct Changes {
    pub(crate) description: Change<String>,
    pub(crate) labels: Change<Map<String, Value>>,
    pub(crate) avatar_url: Change<String>,
    pub(crate) style_prompt: Change<String>,
    /// The manifest's fields as they were written.
    manifest: Map<String, Value>,
}

impl Model for Changes {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let description = fields.change_text("description", TEXT_BYTES_MAX);
        let labels = fields.labels("labels");
        let avatar_url = fields.change_text("avatarUrl", URL_BYTES_MAX);
        let style_prompt = fields.change_text("stylePrompt", TEXT_BYTES_MAX);
        let mut manifest = Map::new();
        for spellings in MANIFEST_FIELDS {
            let mut said: Option<(&str, &Value)> = None;
            for name in *spellings {
                let Some((key, value)) = fields.raw(name) else { continue };
                manifest.insert(key.to_owned(), value.clone());
                match said {
                    Some((first, other)) if other != value => fields.differs(first, name),
                    _ => said = Some((name, value)),
                }
            }
        }
        Some(Self { description, labels, avatar_url, style_prompt, manifest })
    }
}

/// A request to create an agent, or to change the one of that name.
#[derive(Debug)]
pub(crate) struct NewAgent {
    pub(crate) name: String,
    pub(crate) changes: Changes,
}

impl Model for NewAgent {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.describe("name", || json!({ "type": "string", "pattern": NAME }));
        let name = fields.required_text("name", 1_024);
        if name.as_deref().is_some_and(|name| !valid_name(name)) {
            let want = "expected 1 to 128 letters, digits, `.`, `_` or `-`, beginning with a letter or digit";
            fields.issue("name", want);
        }
        if let Some(taken) = name.as_deref().filter(|name| RESERVED.contains(name)) {
            fields.issue(
                "name",
                format!("`{taken}` is a word of the API: below /v1/agents it names something else"),
            );
        }
        let mut changes = Changes::read(fields)?;
        // The contract's upsert overwrites both, said or not.
        if changes.description == Change::Keep {
            changes.description = Change::Clear;
        }
        if changes.labels == Change::Keep {
            changes.labels = Change::Clear;
        }
        Some(Self { name: name?, changes })
    }
}

/// What the contract has at the place of an agent's name in a path. An agent of before that is called so is still found.
const RESERVED: [&str; 5] = ["templates", "from-template", "generate-spec", "generate-code", "loop"];

/// An agent's name, as a JSON Schema pattern.
const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$";

/// Whether this is [`NAME`].
pub(crate) fn valid_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    first && name.len() <= NAME_MAX && name.bytes().all(inner)
}

impl Changes {
    /// Whether the request says nothing at all.
    pub(crate) fn is_empty(&self) -> bool {
        let row = (&self.description, &self.labels, &self.avatar_url, &self.style_prompt);
        matches!(row, (Change::Keep, Change::Keep, Change::Keep, Change::Keep)) && self.manifest.is_empty()
    }

    /// The manifest that the request says, defaults where it says nothing.
    pub(crate) fn said(&self) -> Result<Manifest> {
        Manifest::parse(&Value::Object(self.manifest.clone())).map_err(|invalid| {
            let field = |issue: Issue| FieldError { path: issue.path, message: issue.message };
            refused(invalid.issues.into_iter().map(field).collect())
        })
    }

    /// The manifest after these changes: a field that is named replaces, and `null` goes back to the default.
    pub(crate) fn manifest(&self, old: Manifest, terms: Terms<'_>) -> Result<Manifest> {
        let said = self.said()?;
        // Only what this request says: an older version was fine under the limits and with the tools of its time.
        let mut issues = problems(&said, terms.tools);
        let manifest = self.merged(old, said);
        issues.extend(too_large(&manifest));
        let turns_max = terms.limits.turns_per_run_max;
        let says = self.said_of("maxTurns").is_some_and(|value| !value.is_null());
        if says && manifest.max_turns > turns_max {
            let message = format!("expected at most {turns_max} turns; the limit is turnsPerRunMax");
            issues.push(FieldError { path: "maxTurns".to_owned(), message });
        }
        let cost_max = terms.limits.run_cost_max;
        if self.said_of("maxCostUsd").is_some() && manifest.max_cost.is_some_and(|cost| cost > cost_max) {
            let message = format!("expected at most {} dollars; the limit is runCostMax", cost_max.to_wire());
            issues.push(FieldError { path: "maxCostUsd".to_owned(), message });
        }
        let (steps, steps_max) = (manifest.steps.len(), terms.limits.program_steps_max);
        if self.said_of("steps").is_some() && u32::try_from(steps).is_ok_and(|steps| steps > steps_max) {
            let message = format!("{steps} steps; the limit (programStepsMax) is {steps_max}");
            issues.push(FieldError { path: "steps".to_owned(), message });
        }
        let mut wrong = Vec::new();
        let own = manifest.check_limits(terms);
        wrong.extend(own.into_iter().filter(|issue| self.says(&issue.path)));
        if let Some(list) = self.said_of("steps") {
            wrong.extend(manifest.check_steps(list, terms));
        }
        let wrong = wrong.into_iter();
        issues.extend(wrong.map(|issue| FieldError { path: issue.path, message: issue.message }));
        if issues.is_empty() { Ok(manifest) } else { Err(refused(issues)) }
    }

    /// Whether the request says anything of the field that this path leads into.
    fn says(&self, path: &str) -> bool {
        let field = path.split(['.', '[']).next().unwrap_or_default();
        self.said_of(field).is_some_and(|value| !value.is_null())
    }

    /// What the request says of this field, in any spelling.
    fn said_of(&self, field: &str) -> Option<&Value> {
        let spellings = MANIFEST_FIELDS.iter().find(|spellings| spellings.contains(&field))?;
        self.manifest.iter().find(|(key, _)| spellings.contains(&camel(key).as_str())).map(|(_, value)| value)
    }

    fn merged(&self, old: Manifest, said: Manifest) -> Manifest {
        macro_rules! pick {
            ($($field:ident $name:literal),+ $(,)?) => {
                Manifest {
                    $($field: if self.said_of($name).is_some() { said.$field } else { old.$field },)+
                    style_prompt: old.style_prompt,
                    about: old.about,
                }
            };
        }
        pick! {
            program "program",
            model "model",
            strategy "strategy",
            system_prompt "systemPrompt",
            tools "tools",
            max_turns "maxTurns",
            max_tokens "maxTokens",
            temperature "temperature",
            input_schema "inputSchema",
            output_schema "outputSchema",
            retry "retry",
            max_cost "maxCostUsd",
            timeout "timeout",
            steps "steps",
        }
    }
}

/// The schemas of a manifest, each with its path. Whether they are any takes time to say, and is said before the
/// transaction that saves them.
pub(crate) fn schemas(manifest: &Manifest) -> Vec<(String, Value)> {
    let whole = [("inputSchema", &manifest.input_schema), ("outputSchema", &manifest.output_schema)];
    let whole = whole.into_iter().filter_map(|(path, schema)| Some((path.to_owned(), schema.clone()?)));
    let mut found: Vec<(String, Value)> = whole.collect();
    of_steps(&manifest.steps, "steps", &mut found);
    found
}

fn of_steps(steps: &[StepDef], path: &str, found: &mut Vec<(String, Value)>) {
    for (n, step) in steps.iter().enumerate() {
        let path = format!("{path}[{n}]");
        for name in ["output_schema", "outputSchema"] {
            // One that refers to what a run knows is a schema only when that is filled in.
            let schema = step.data.get(name).filter(|schema| !schema.to_string().contains("{{"));
            found.extend(schema.map(|schema| (format!("{path}.data.{name}"), schema.clone())));
        }
        of_steps(&step.inner, &format!("{path}.steps"), found);
    }
}

/// What the engine cannot know: whether the tools exist here, and are no more harmless than a manifest says.
pub(crate) fn problems(manifest: &Manifest, tools: &[ToolDef]) -> Vec<FieldError> {
    let mut issues = Vec::new();
    for (n, listed) in manifest.tools.iter().flatten().enumerate() {
        let path = format!("tools[{n}]");
        match tools.iter().find(|tool| tool.name == listed.name) {
            None => {
                let meant = nearest(listed.name.as_str(), tools.iter().map(|tool| tool.name.as_str()));
                let meant = meant.map(|meant| format!("; did you mean {meant:?}?")).unwrap_or_default();
                let message = format!("there is no tool {}{meant}; GET /v1/tools lists them", listed.name);
                issues.push(FieldError { path, message });
            }
            Some(tool) if listed.effect.is_some_and(|effect| effect < tool.effect) => {
                let own = serde_json::json!(tool.effect);
                let message = format!("{} is {own}; a manifest may say something stricter", tool.name);
                issues.push(FieldError { path: format!("{path}.effect"), message });
            }
            Some(_) => {}
        }
    }
    issues
}

/// The approvers whom an agent's steps name, each once, with the first step that names them. Whom a reference stands for is
/// known when the step runs.
pub(crate) fn approvers(manifest: &Manifest) -> Vec<(&str, &str)> {
    let mut named = Vec::new();
    name_approvers(&manifest.steps, &mut named);
    named
}

fn name_approvers<'a>(steps: &'a [StepDef], named: &mut Vec<(&'a str, &'a str)>) {
    for step in steps {
        let said = step.data.get("approvers").filter(|_| step.kind == Some(StepKind::Approval));
        let many = said.and_then(Value::as_array).into_iter().flatten();
        for name in said.into_iter().chain(many).filter_map(Value::as_str) {
            if !name.contains("{{") && !named.iter().any(|(_, known)| *known == name) {
                named.push((&step.id, name));
            }
        }
        name_approvers(&step.inner, named);
    }
}

fn too_large(manifest: &Manifest) -> Option<FieldError> {
    let bytes = manifest.canonical().len();
    (bytes > MANIFEST_BYTES_MAX).then(|| FieldError {
        path: String::new(),
        message: format!("the manifest has {bytes} bytes; the limit is {MANIFEST_BYTES_MAX}"),
    })
}

/// 400 for a manifest with these issues.
pub(crate) fn refused(issues: Vec<FieldError>) -> Error {
    Error::about(Code::InvalidManifest, "invalid manifest", issues)
}

/// `max_turns` as `maxTurns`.
fn camel(key: &str) -> String {
    let mut upper = false;
    let mut out = String::with_capacity(key.len());
    for c in key.chars() {
        match (c, upper) {
            ('_', _) => upper = true,
            (c, true) => {
                out.push(c.to_ascii_uppercase());
                upper = false;
            }
            (c, false) => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use lantern_types::{EffectClass, Limits, MicroUsd, ToolName};

    fn changes(body: Value) -> Changes {
        let map = body.as_object().unwrap().clone();
        let mut fields = Fields::of(&map);
        let changes = Changes::read(&mut fields).unwrap();
        fields.finish().unwrap();
        changes
    }

    fn tools() -> Vec<ToolDef> {
        let tool = |name: &str, effect| ToolDef {
            name: ToolName::parse(name).unwrap(),
            description: String::new(),
            input_schema: json!({}),
            effect,
        };
        vec![tool("calc", EffectClass::Pure), tool("pay", EffectClass::Irreversible)]
    }

    fn naps(count: usize) -> Vec<Value> {
        vec![json!({"kind": "sleep", "duration": 1}); count]
    }

    #[test]
    fn a_version_is_named_by_its_number_or_id() {
        let id = "018f0000-0000-7000-8000-000000000001";
        for (text, want) in [
            ("1", Some(Wanted::Number(1))),
            ("0042", Some(Wanted::Number(42))),
            (id, id.parse().ok().map(Wanted::Id)),
            ("0", None),
            ("-1", None),
            ("+1", None),
            ("9223372036854775808", None),
            ("", None),
            ("latest", None),
        ] {
            assert_eq!(Wanted::parse(text), want, "{text}");
        }
    }

    #[test]
    fn what_a_version_says_of_its_agent_comes_back() {
        let labels: Map<String, Value> = [("team".to_owned(), json!("x"))].into_iter().collect();
        let bare = Agent {
            id: AgentId::from_uuid(uuid::Uuid::nil()),
            name: "a".to_owned(),
            description: None,
            labels: Map::new(),
            avatar_url: None,
            style_prompt: None,
            current: VersionId::from_uuid(uuid::Uuid::nil()),
            created_by: None,
            created_at: At::from_micros(1),
            updated_at: At::from_micros(1),
            archived_at: None,
            revision: 1,
        };
        let full = Agent {
            description: Some("d".to_owned()),
            labels,
            avatar_url: Some("https://x.example/a.png".to_owned()),
            style_prompt: Some("dry".to_owned()),
            ..bare.clone()
        };
        for (agent, other) in [(&full, &bare), (&bare, &full)] {
            let back = other.clone().retold(&agent.told(Manifest::default()));
            assert_eq!(format!("{back:?}"), format!("{agent:?}"));
        }
    }

    #[test]
    fn names_are_what_the_contract_says() {
        for (name, fine) in [
            ("a", true),
            ("digest-2", true),
            ("0", true),
            ("Support.Bot_2", true),
            (&*"a".repeat(128), true),
            (&*"a".repeat(129), false),
            ("", false),
            ("-a", false),
            (".", false),
            ("..", false),
            ("_a", false),
            ("A", true),
            ("a_b", true),
            ("a b", false),
            ("a\n", false),
            ("ä", false),
            ("a/b", false),
        ] {
            assert_eq!(valid_name(name), fine, "{name}");
        }
    }

    #[test]
    fn named_fields_replace_and_the_rest_stays() {
        let (tools, limits) = (tools(), Limits::default());
        let terms = Terms { tools: &tools, limits: &limits };
        let first = changes(json!({"model": "gpt-4o", "max_turns": 3, "tools": ["calc"], "timeout": "30s"}));
        let first = first.manifest(Manifest::default(), terms).unwrap();
        assert_eq!((first.model.as_str(), first.max_turns), ("gpt-4o", 3));
        let second = changes(json!({"instructions": "Be brief.", "maxTurns": null, "timeoutMs": null}));
        let second = second.manifest(first, terms).unwrap();
        assert_eq!(second.system_prompt.as_deref(), Some("Be brief."));
        assert_eq!(second.max_turns, Manifest::default().max_turns);
        assert_eq!((second.model.as_str(), second.timeout), ("gpt-4o", None));
        assert_eq!(second.tools.unwrap().len(), 1);
    }

    #[test]
    fn a_manifest_that_could_not_run_is_refused_with_its_paths() {
        let (tools, limits) = (tools(), Limits::default());
        let terms = Terms { tools: &tools, limits: &limits };
        for (body, path) in [
            (json!({"maxTurns": 0}), "maxTurns"),
            (json!({"maxTurns": 41}), "maxTurns"),
            (json!({"max_turns": 41}), "maxTurns"),
            (json!({"tools": ["calc", "teleport"]}), "tools[1]"),
            (json!({"tools": [{"name": "pay", "effect": "keyed"}]}), "tools[0].effect"),
            (json!({"steps": naps(501)}), "steps"),
            (json!({"steps": [{"kind": "jump"}]}), "steps[0].kind"),
            (json!({"systemPrompt": "x".repeat(2 << 20)}), ""),
        ] {
            let error = changes(body).manifest(Manifest::default(), terms).unwrap_err();
            assert_eq!((error.code(), error.fields()[0].path.as_str()), (Code::InvalidManifest, path));
        }
    }

    #[test]
    fn two_names_of_one_field_may_not_say_two_things() {
        let issues = |body: Value| {
            let map = body.as_object().unwrap().clone();
            let mut fields = Fields::of(&map);
            Changes::read(&mut fields);
            fields.finish().err().map(|issues| issues[0].path.clone())
        };
        assert_eq!(
            issues(json!({"systemPrompt": "a", "instructions": "b"})),
            Some("systemPrompt".to_owned())
        );
        assert_eq!(issues(json!({"timeout": 5, "timeoutMs": 5})), None, "the unit of the first counts");
        assert_eq!(issues(json!({"timeout": 5, "timeout_ms": 6})), Some("timeout".to_owned()));
        assert_eq!(issues(json!({"instructions": "b"})), None);
    }

    #[test]
    fn a_limit_lowered_later_refuses_no_change_that_does_not_speak_of_it() {
        let run_cost_max = MicroUsd::from_micros(2_000_000);
        let limits = Limits { turns_per_run_max: 5, run_cost_max, ..Limits::default() };
        let terms = Terms { tools: &[], limits: &limits };
        let old = Manifest {
            max_turns: 30,
            max_cost: Some(MicroUsd::from_micros(9_000_000)),
            ..Manifest::default()
        };
        let refused = |body: Value| changes(body).manifest(old.clone(), terms).is_err();
        for absurd in
            [json!({"maxTurns": 6}), json!({"maxCostUsd": 2.01}), json!({"max_cost_usd": "9000000000"})]
        {
            assert!(refused(absurd.clone()), "{absurd}");
        }
        let fine = [
            json!({"maxTurns": 5}),
            json!({"maxTurns": null}),
            json!({"maxCostUsd": 2}),
            json!({"model": "gpt-4o"}),
        ];
        for fine in fine {
            assert!(!refused(fine.clone()), "{fine}");
        }
    }
}
