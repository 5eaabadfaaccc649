//! Every limit in one struct. A limit is checked where the value enters and asserted where it is used.

use serde::{Deserialize, Serialize};

use serde_json::{Map, Value};

use crate::{Digest, Dur, MicroUsd, nearest};

/// How deep JSON may nest wherever it enters. The reader's own limit is 128, and envelopes add a few levels: what is
/// stored must always be readable again.
pub const JSON_DEPTH_MAX: usize = 64;

/// Whether `value` nests at most `levels` deep.
pub fn within_depth(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels > 0 && items.iter().all(|item| within_depth(item, levels - 1)),
        Value::Object(fields) => levels > 0 && fields.values().all(|field| within_depth(field, levels - 1)),
        _ => true,
    }
}

/// The limits in force. Serialises with its units in the names; its [`digest`](Limits::digest) is journaled with
/// every admission, so that a decision can be re-derived later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Limits {
    /// Steps a run may request before it must continue as new or stop.
    pub steps_per_run_max: u32,
    /// Events a run's journal may hold; beyond it an agent's run continues as new, and a list of steps fails.
    pub events_per_run_max: u32,
    /// Model turns of one agent run and its continuations; a manifest that asks for more is refused.
    pub turns_per_run_max: u32,
    /// Attempts at one step, whatever its policy asks.
    pub attempts_per_step_max: u32,
    /// Items of one map step.
    pub map_items_max: u32,
    /// Steps of one map or race, or tool calls of one turn, in flight at once; more wait their turn.
    pub concurrency_max: u32,
    /// How deep runs may start child runs.
    pub child_depth_max: u32,
    /// Steps in one `steps` program.
    pub program_steps_max: u32,
    /// Identical tool calls in a row before the run is stopped as looping.
    pub identical_calls_max: u32,
    /// A request body, in bytes.
    pub body_bytes_max: u64,
    /// A run's input, in bytes of JSON.
    pub input_bytes_max: u64,
    /// One step's output, in bytes of JSON.
    pub output_bytes_max: u64,
    /// A model request, in bytes of text and schemas.
    pub prompt_bytes_max: u64,
    /// Undelivered inbox rows of one run.
    pub inbox_rows_max: u32,
    /// One signal's value, in bytes of JSON.
    pub signal_bytes_max: u64,
    /// Signals that one run keeps until something waits for them.
    pub signals_per_run_max: u32,
    /// What those have together, in bytes of JSON.
    pub signal_bytes_per_run_max: u64,
    /// Completion tokens of one call when the agent names no number.
    pub completion_tokens_default: u32,
    /// Completion tokens of one call, whatever the agent asks.
    pub completion_tokens_max: u32,
    /// The longest a step may take when its policy names no timeout.
    pub step_timeout_default: Dur,
    /// The longest a step may take, waits for people and time excepted.
    pub step_timeout_max: Dur,
    /// The longest sleep, signal wait or approval wait; a longer one is refused.
    pub wait_max: Dur,
    /// What one run may cost when neither the agent nor the request says.
    pub run_cost_default: MicroUsd,
    /// What one run may cost, whatever anybody asks.
    pub run_cost_max: MicroUsd,
    /// Times a run may go on as a new one.
    pub continuations_max: u32,
    /// Runs of one tenant that are not over, waiting ones too. Starting another is refused; runs that others start, and
    /// continuations, are counted and not refused.
    pub concurrent_runs_per_tenant_max: u32,
    /// Runs of one tenant that are at work, in all processes together: taken up, and not waiting for time, people or other
    /// runs. Further ones wait for their turn. As long as no fewer than may be open are allowed, nobody counts.
    pub runs_at_work_per_tenant_max: u32,
    /// What a run of a session is told of what was said before, in bytes of text. The oldest exchanges are left out.
    pub recall_bytes_max: u64,
    /// Pictures of earlier messages that a run of a session is shown, in bytes of base64. The oldest are left out.
    pub recall_image_bytes_max: u64,
    /// Attachments of one message.
    pub attachments_per_message_max: u32,
    /// One attachment, in bytes.
    pub attachment_bytes_max: u64,
    /// Event-stream subscribers of one process.
    pub subscribers_max: u32,
    /// Runs one process drives at once.
    pub runs_in_memory_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            steps_per_run_max: 2_000,
            events_per_run_max: 10_000,
            turns_per_run_max: 40,
            attempts_per_step_max: 20,
            map_items_max: 1_000,
            concurrency_max: 64,
            child_depth_max: 5,
            program_steps_max: 500,
            identical_calls_max: 3,
            body_bytes_max: 8 << 20,
            input_bytes_max: 4 << 20,
            output_bytes_max: 1 << 20,
            prompt_bytes_max: 8 << 20,
            inbox_rows_max: 1_000,
            signal_bytes_max: 1 << 20,
            signals_per_run_max: 1_000,
            signal_bytes_per_run_max: 8 << 20,
            completion_tokens_default: 4_096,
            completion_tokens_max: 128_000,
            step_timeout_default: Dur::from_secs(120),
            step_timeout_max: Dur::from_secs(3_600),
            wait_max: Dur::from_secs(366 * 86_400),
            run_cost_default: MicroUsd::from_micros(5_000_000),
            run_cost_max: MicroUsd::from_micros(100_000_000),
            continuations_max: 1_000,
            concurrent_runs_per_tenant_max: 10_000,
            runs_at_work_per_tenant_max: 10_000,
            recall_bytes_max: 384 << 10,
            recall_image_bytes_max: 4 << 20,
            attachments_per_message_max: 16,
            attachment_bytes_max: 2 << 20,
            subscribers_max: 10_000,
            runs_in_memory_max: 4_096,
        }
    }
}

/// Those of a process and not of a tenant: they are met before it is known who asks, or count for everybody together.
pub const OF_PROCESS: [&str; 3] = ["bodyBytesMax", "subscribersMax", "runsInMemoryMax"];

impl Limits {
    /// The same with these in place of its own, by their names in JSON. Fails, in words for people, at a name that is none, one
    /// that no tenant has of its own, and a value that it cannot have.
    pub fn with(&self, own: &Map<String, Value>) -> Result<Self, String> {
        let mut all = match serde_json::to_value(self) {
            Ok(Value::Object(all)) => all,
            other => return Err(format!("limits are no object: {other:?}")),
        };
        for (name, value) in own {
            if OF_PROCESS.contains(&name.as_str()) {
                return Err(format!("{name} is a limit of the server, which no tenant has of its own"));
            }
            if !all.contains_key(name) {
                let meant = nearest(name, all.keys().map(String::as_str));
                let meant = meant.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
                return Err(format!("there is no limit {name}{meant}"));
            }
            if !value.is_u64() {
                return Err(format!("{name} is {value}: expected a whole number from 0 on"));
            }
            all.insert(name.clone(), value.clone());
            let one = serde_json::from_value::<Self>(Value::Object(all.clone()));
            one.map_err(|error| format!("{name} is {value}: {error}"))?;
        }
        serde_json::from_value(Value::Object(all)).map_err(|error| error.to_string())
    }

    /// The same with the limits of the process from these.
    #[must_use]
    pub fn of_process_of(&self, process: &Self) -> Self {
        Self {
            body_bytes_max: process.body_bytes_max,
            subscribers_max: process.subscribers_max,
            runs_in_memory_max: process.runs_in_memory_max,
            ..self.clone()
        }
    }

    /// How many runs of a tenant may be at work, where that is fewer than may be open.
    pub fn at_work_max(&self) -> Option<u32> {
        let most = self.runs_at_work_per_tenant_max;
        (most < self.concurrent_runs_per_tenant_max).then_some(most)
    }

    /// Names this set of limits.
    pub fn digest(&self) -> Digest {
        let text = serde_json::to_string(self).unwrap_or_default();
        assert!(!text.is_empty(), "limits are always JSON");
        Digest::of(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_tenant_has_its_own_or_learns_why_not() {
        let base = Limits::default();
        let with = |own: Value| base.with(own.as_object().unwrap());
        let two = with(json!({"turnsPerRunMax": 3, "runCostMax": 7})).unwrap();
        let want =
            Limits { turns_per_run_max: 3, run_cost_max: MicroUsd::from_micros(7), ..Limits::default() };
        assert_eq!((&two, with(json!({})).unwrap()), (&want, base.clone()));
        for (own, why) in [
            (json!({"turnPerRunMax": 3}), "there is no limit turnPerRunMax; did you mean turnsPerRunMax?"),
            (json!({"x": 3}), "there is no limit x"),
            (json!({"turnsPerRunMax": "3"}), "turnsPerRunMax is \"3\": expected a whole number from 0 on"),
            (json!({"turnsPerRunMax": -3}), "turnsPerRunMax is -3: expected a whole number from 0 on"),
            (
                json!({"subscribersMax": 3}),
                "subscribersMax is a limit of the server, which no tenant has of its own",
            ),
        ] {
            assert_eq!(with(own).unwrap_err(), why);
        }
        assert!(
            with(json!({"turnsPerRunMax": 1_u64 << 40}))
                .unwrap_err()
                .starts_with("turnsPerRunMax is 1099511627776: ")
        );
        let mut other = serde_json::to_value(&base).unwrap();
        for name in OF_PROCESS {
            other[name] = json!(other[name].as_u64().unwrap() + 1);
        }
        let other: Limits = serde_json::from_value(other).unwrap();
        assert_ne!(other, base);
        assert_eq!(
            two.of_process_of(&other),
            Limits { turns_per_run_max: 3, run_cost_max: two.run_cost_max, ..other }
        );
    }
}
