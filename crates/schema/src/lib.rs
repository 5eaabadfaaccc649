//! JSON Schema, as tenants write it: whether a schema is one, and how a value breaks it.
//!
//! Invariant: neither a schema nor a value, however it is made, takes the machine: `shape` bounds what is compiled,
//! `cost` bounds what one check does, and what is not quick runs on a thread of its own, a few at once. Nothing is
//! fetched. Patterns run on an engine of linear time.

#![warn(missing_docs)]

mod cost;
mod refs;
mod shape;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, ValidationError, Validator};
use lantern_types::Dur;
use serde_json::Value;
use tokio::sync::Semaphore;

use refs::Marks;
pub use shape::{Problem, SCHEMA_BYTES_MAX, SUBSCHEMA_DEPTH_MAX, SUBSCHEMAS_MAX};

/// What one check may take: some tenths of a second.
pub const COST_MAX: u64 = 4_000_000;
/// Dearer checks say only that the value breaks the schema: finding every place takes memory for each.
const COST_WORDED_MAX: u64 = 100_000;
/// What is done at once, without another thread: some tenths of a millisecond.
const COST_INLINE_MAX: u64 = 5_000;
/// A schema of at most this weight is compiled at once.
const WEIGHT_INLINE_MAX: u64 = 250;
/// A heavier schema is compiled again each time, so that remembered ones stay small.
const WEIGHT_KEPT_MAX: u64 = 1_000;
const KEPT_MAX: usize = 256;
const AT_ONCE: usize = 2;
const WAITING_MAX: usize = 64;
/// How long anybody waits for a check, its turn included.
const TIME_MAX: Dur = Dur::from_secs(10);
const PATTERN_BYTES_MAX: usize = 64 << 10;
const WORDS_MAX: usize = 300;
const TOO_LONG: &str = "checking this value against its schema would take too long; send less";
const NO_PATTERN: &str = "not a pattern that can be used: it must be a regular expression, without looking around \
    (`(?=…)`) and back (`\\1`), and not too large when its repetitions are written out";

/// One way in which a value breaks a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Where in the value: a JSON pointer, empty for the whole.
    pub pointer: String,
    /// How.
    pub message: String,
}

/// Too many checks are under way to make this one now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// A compiled schema.
struct Compiled {
    text: Value,
    marks: Marks,
    validator: Validator,
    weight: u64,
}

/// Checks schemas and values. Cheap to clone; clones share what they remember and their threads.
#[derive(Clone)]
pub struct Checker {
    inner: Arc<Inner>,
}

struct Inner {
    // Sections under this lock are one look-up or insert. A full map is emptied.
    kept: Mutex<HashMap<String, Arc<Compiled>>>,
    running: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Default for Checker {
    fn default() -> Self {
        let inner = Inner {
            kept: Mutex::default(),
            running: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Semaphore::new(WAITING_MAX),
        };
        Self { inner: Arc::new(inner) }
    }
}

impl Checker {
    /// What is wrong with a schema, if anything.
    pub async fn problem(&self, schema: &Value) -> Result<Option<Problem>, Busy> {
        Ok(self.compiled(schema).await?.err())
    }

    /// How `value` breaks `schema`, the first `most` ways; none when it does not. A schema that cannot be used is
    /// itself the way.
    pub async fn violations(
        &self,
        schema: &Value,
        value: &Value,
        most: usize,
    ) -> Result<Vec<Violation>, Busy> {
        let compiled = match self.compiled(schema).await? {
            Ok(compiled) => compiled,
            Err(problem) => return Ok(vec![refused(&problem)]),
        };
        if compiled.cost(value, COST_INLINE_MAX).is_some() {
            return Ok(compiled.violations(value, most, COST_INLINE_MAX));
        }
        let value = value.clone();
        self.apart(move || compiled.check(&value, most)).await
    }

    async fn compiled(&self, schema: &Value) -> Result<Result<Arc<Compiled>, Problem>, Busy> {
        let text = schema.to_string();
        let found = self.inner.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&text).cloned();
        if let Some(found) = found {
            return Ok(Ok(found));
        }
        let (weight, marks) = match weighed(schema) {
            Ok(weighed) => weighed,
            Err(problem) => return Ok(Err(problem)),
        };
        let compiled = if weight <= WEIGHT_INLINE_MAX {
            compile(schema, marks, weight)
        } else {
            let schema = schema.clone();
            self.apart(move || compile(&schema, marks, weight)).await?
        };
        if let Ok(compiled) = &compiled
            && compiled.weight <= WEIGHT_KEPT_MAX
        {
            let mut kept = self.inner.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() >= KEPT_MAX {
                kept.clear();
            }
            kept.insert(text, compiled.clone());
        }
        Ok(compiled)
    }

    /// Computes on a thread that serves nobody else.
    async fn apart<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Busy> {
        let _place = self.inner.waiting.try_acquire().map_err(|_| Busy)?;
        let done = async {
            let running = self.inner.running.clone().acquire_owned().await.map_err(|_| Busy)?;
            // The permit goes along: whoever stops waiting does not let another computation in.
            let work = tokio::task::spawn_blocking(move || {
                let done = work();
                drop(running);
                done
            });
            work.await.map_err(|_| Busy)
        };
        tokio::time::timeout(TIME_MAX.std(), done).await.map_err(|_| Busy)?
    }
}

/// How `value` breaks `schema`, for a caller that cannot wait: what would take longer than a few hundredths of a second
/// is a violation. Remembers nothing.
pub fn violations(schema: &Value, value: &Value, most: usize) -> Vec<Violation> {
    let weighed = weighed(schema).and_then(|(weight, marks)| compile(schema, marks, weight));
    let compiled = match weighed {
        Ok(compiled) => compiled,
        Err(problem) => return vec![refused(&problem)],
    };
    match compiled.cost(value, COST_WORDED_MAX) {
        Some(cost) => compiled.violations(value, most, cost),
        None => vec![whole(TOO_LONG.to_owned())],
    }
}

fn weighed(schema: &Value) -> Result<(u64, Marks), Problem> {
    let marks = refs::marks(schema);
    Ok((shape::weight(schema, &marks)?, marks))
}

impl Compiled {
    fn cost(&self, value: &Value, most: u64) -> Option<u64> {
        cost::of(&self.text, &self.marks, value, most)
    }

    fn check(&self, value: &Value, most: usize) -> Vec<Violation> {
        match self.cost(value, COST_MAX) {
            Some(cost) => self.violations(value, most, cost),
            None => vec![whole(TOO_LONG.to_owned())],
        }
    }

    fn violations(&self, value: &Value, most: usize, cost: u64) -> Vec<Violation> {
        if self.validator.is_valid(value) {
            return Vec::new();
        }
        if cost > COST_WORDED_MAX {
            return vec![whole("does not match the schema; it is too large to say where".to_owned())];
        }
        let worded = |error: ValidationError<'_>| Violation {
            pointer: error.instance_path().to_string(),
            message: bounded(&error.to_string()),
        };
        self.validator.iter_errors(value).take(most).map(worded).collect()
    }
}

fn refused(problem: &Problem) -> Violation {
    whole(format!("the schema itself is refused: {}", problem.message))
}

const fn whole(message: String) -> Violation {
    Violation { pointer: String::new(), message }
}

/// The one place that makes a validator.
fn compile(schema: &Value, marks: Marks, weight: u64) -> Result<Arc<Compiled>, Problem> {
    let patterns = PatternOptions::regex()
        .size_limit(PATTERN_BYTES_MAX)
        .dfa_size_limit(PATTERN_BYTES_MAX.saturating_mul(4));
    let validator = jsonschema::options()
        .with_pattern_options(patterns)
        .build(schema)
        .map_err(|error| unusable(&error))?;
    Ok(Arc::new(Compiled { text: schema.clone(), marks, validator, weight }))
}

fn unusable(error: &ValidationError<'_>) -> Problem {
    let message = match error.kind() {
        ValidationErrorKind::Format { format } if format == "regex" => NO_PATTERN.to_owned(),
        _ => format!("not a JSON Schema: {}", bounded(&error.to_string())),
    };
    Problem { pointer: error.instance_path().to_string(), message }
}

/// `/tools/1/effect` as `.tools[1].effect`.
pub fn dotted(pointer: &str) -> String {
    let part = |segment: &str| match segment.parse::<usize>() {
        Ok(index) => format!("[{index}]"),
        Err(_) => format!(".{}", segment.replace("~1", "/").replace("~0", "~")),
    };
    pointer.split('/').skip(1).map(part).collect()
}

fn bounded(text: &str) -> String {
    text.chars().take(WORDS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    async fn found(schema: &Value, value: &Value) -> Vec<Violation> {
        Checker::default().violations(schema, value, 5).await.unwrap()
    }

    #[tokio::test]
    async fn a_value_is_checked_with_its_places() {
        let schema = json!({
            "type": "object", "required": ["n"],
            "properties": {"n": {"type": "integer"}, "tags": {"type": "array", "items": {"type": "string"}}},
        });
        assert!(found(&schema, &json!({"n": 1, "tags": ["a"]})).await.is_empty());
        let broken = found(&schema, &json!({"n": "x", "tags": ["a", 2]})).await;
        let places: Vec<&str> = broken.iter().map(|violation| violation.pointer.as_str()).collect();
        assert_eq!(places, ["/n", "/tags/1"]);
        assert_eq!(dotted("/tags/1"), ".tags[1]");
        assert_eq!(found(&schema, &json!({})).await[0].pointer, "");
    }

    #[tokio::test]
    async fn a_schema_that_is_none_or_reaches_out_is_refused() {
        let checker = Checker::default();
        let problem = async |schema: &Value| checker.problem(schema).await.unwrap();
        assert_eq!(problem(&json!({"type": "object"})).await, None);
        assert_eq!(problem(&json!({"$ref": "#/$defs/a", "$defs": {"a": true}})).await, None);
        for bad in [
            json!({"type": 5}),
            json!({"$ref": "http://127.0.0.1:1/schema.json"}),
            json!({"$ref": "file:///etc/passwd"}),
        ] {
            assert!(problem(&bad).await.is_some(), "{bad}");
        }
        assert_eq!(
            problem(&json!({"properties": {"a": {"type": 5}}})).await.unwrap().pointer,
            "/properties/a/type"
        );
        assert_eq!(found(&json!({"type": 5}), &json!({})).await.len(), 1);
    }

    #[tokio::test]
    async fn a_pattern_that_may_take_more_than_linear_time_is_refused_in_clear_words() {
        for pattern in ["(a+)+\\1", "^(?=(a+)+$)b", "(?!x)a", "(?<=x)a", "(\\w{1000}){1000}", "("] {
            for (word, said) in [("pattern", json!(pattern)), ("patternProperties", json!({pattern: true}))] {
                let problem = Checker::default().problem(&json!({word: said})).await.unwrap().unwrap();
                assert!(problem.message.contains("without looking around"), "{problem:?}");
                assert_eq!(problem.pointer.split('/').nth(1), Some(word));
            }
        }
        let steep = json!({"pattern": "^(a|aa)+$", "propertyNames": {"pattern": "^(\\w+\\s?)*$"}});
        let text = "a".repeat(100_000);
        assert!(found(&steep, &json!(text)).await.is_empty());
        assert_eq!(found(&steep, &json!(format!("{text}b"))).await.len(), 1);
    }

    /// The input that once held a processor for half a minute, a list that is long, and a tree that branches.
    #[tokio::test]
    async fn what_would_take_too_long_is_refused_and_what_is_long_is_not() {
        let next = |level: usize| json!({"$ref": format!("#/$defs/d{level}")});
        let way = |level: usize| {
            (format!("d{level}"), json!({"anyOf": [next(level + 1), next(level + 1), next(level + 1)]}))
        };
        let mut defs: serde_json::Map<String, Value> = (0..14).map(way).collect();
        defs.insert("d14".to_owned(), json!({"type": "string"}));
        let thicket = json!({"$defs": defs, "$ref": "#/$defs/d0"});
        assert!(found(&thicket, &json!({"a": 1})).await[0].message.contains("references"));

        let list = json!({"items": {"type": "integer"}});
        let mut numbers = vec![json!(1); 500_000];
        assert!(found(&list, &json!(numbers)).await.is_empty());
        numbers.push(json!("x"));
        assert!(found(&list, &json!(numbers)).await[0].message.contains("too large to say where"));

        let tree = json!({"anyOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}, "minItems": 9}]});
        let nested = (0..60).fold(json!("leaf"), |inner, _| json!([inner]));
        assert!(found(&tree, &nested).await[0].message.contains("too long"));
        assert!(violations(&tree, &nested, 5)[0].message.contains("too long"));
        assert!(violations(&list, &json!([1]), 5).is_empty());
    }

    #[tokio::test]
    async fn no_more_wait_than_may() {
        let checker = Checker::default();
        let all = checker.inner.waiting.acquire_many(64).await.unwrap();
        let long = json!(vec![1; 100_000]);
        let list = json!({"items": {"type": "integer"}});
        assert_eq!(checker.violations(&list, &long, 1).await, Err(Busy));
        // What is quick needs no place.
        assert_eq!(checker.violations(&list, &json!([1]), 1).await, Ok(Vec::new()));
        drop(all);
        assert_eq!(checker.violations(&list, &long, 1).await, Ok(Vec::new()));
    }
}
