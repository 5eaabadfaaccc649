//! What it would take to check one value against one schema: how often a schema meets a part of the value. Pure.
//!
//! Invariant: the validator does at most a small multiple of what is counted here. Where it may stop early this does not,
//! and where it looks twice (`unevaluated…`) this counts twice. Counting itself takes no longer than what it counts, and
//! stops when that is too much.

use serde_json::{Map, Number, Value};

use crate::refs::{self, Marks};

/// How deep schemas may meet values: the stack of the validator.
const DEPTH_MAX: usize = 512;
/// Up to this quotient `multipleOf` is one division of two 128-bit integers.
const QUOTIENT_SHORT_MAX: f64 = 1e20;
/// What it costs beyond: the validator makes fractions of both numbers, up to a thousand bits long, and cancels them.
const LONG_DIVISION: usize = 64;

/// What checking `value` takes, or `None` when that is more than `most`.
pub(crate) fn of(schema: &Value, marks: &Marks, value: &Value, most: u64) -> Option<u64> {
    let mut meter = Meter { root: schema, marks, left: most };
    meter.meet(schema, value, 0)?;
    Some(most - meter.left)
}

struct Meter<'a> {
    root: &'a Value,
    marks: &'a Marks,
    left: u64,
}

impl<'a> Meter<'a> {
    fn pay(&mut self, units: usize) -> Option<()> {
        self.left = self.left.checked_sub(u64::try_from(units).ok()?)?;
        Some(())
    }

    fn meet(&mut self, schema: &'a Value, value: &Value, depth: usize) -> Option<()> {
        self.pay(1)?;
        let Some(map) = schema.as_object() else { return Some(()) };
        if depth >= DEPTH_MAX {
            return None;
        }
        self.compare(map, value)?;
        let looks =
            ["unevaluatedProperties", "unevaluatedItems"].iter().filter(|word| map.contains_key(**word));
        for _ in 0..=looks.count() {
            for (_, reference) in refs::references(map) {
                self.pay(reference.as_str().map_or(0, str::len) / 16)?;
                self.meet(refs::target(self.root, self.marks, reference)?, value, depth + 1)?;
            }
            for (_, inner) in refs::here(map) {
                self.meet(inner, value, depth + 1)?;
            }
        }
        match value {
            Value::Object(fields) => self.fields(map, fields, depth + 1),
            Value::Array(items) => self.items(map, items, depth + 1),
            _ => Some(()),
        }
    }

    /// Keywords that look at the value as a whole.
    fn compare(&mut self, schema: &Map<String, Value>, value: &Value) -> Option<()> {
        self.pay(schema.len())?;
        for word in ["enum", "const", "required"] {
            if let Some(said) = schema.get(word) {
                self.size(said, 1)?;
            }
        }
        if let Value::String(text) = value {
            let words =
                ["pattern", "format", "contentEncoding", "contentMediaType", "minLength", "maxLength"];
            let reads = words.iter().filter(|word| schema.contains_key(**word)).count();
            self.pay(text.len().saturating_mul(reads))?;
        }
        if let (Value::Number(number), Some(divisor)) = (value, schema.get("multipleOf")) {
            self.pay(division(number, divisor))?;
        }
        if schema.get("uniqueItems") == Some(&Value::Bool(true)) {
            self.size(value, 16)?;
        }
        Some(())
    }

    /// Pays for all of a value, `times` over.
    fn size(&mut self, value: &Value, times: usize) -> Option<()> {
        match value {
            Value::String(text) => self.pay((1 + text.len() / 64) * times),
            Value::Array(items) => {
                self.pay(times)?;
                items.iter().try_for_each(|item| self.size(item, times))
            }
            Value::Object(fields) => {
                self.pay(times)?;
                fields.values().try_for_each(|field| self.size(field, times))
            }
            _ => self.pay(times),
        }
    }

    fn fields(
        &mut self,
        schema: &'a Map<String, Value>,
        fields: &Map<String, Value>,
        depth: usize,
    ) -> Option<()> {
        let group = |word: &str| schema.get(word).and_then(Value::as_object);
        let named = group("properties");
        self.pay(named.map_or(0, Map::len))?;
        let patterns = group("patternProperties");
        for (name, field) in fields {
            self.pay(1)?;
            let own = named.and_then(|all| all.get(name));
            if let Some(inner) = own {
                self.meet(inner, field, depth)?;
            }
            // Which patterns match is the validator's to find out; here all of them do.
            for (_, inner) in patterns.into_iter().flatten() {
                self.pay(1 + name.len())?;
                self.meet(inner, field, depth)?;
            }
            let others =
                ["additionalProperties", "unevaluatedProperties"].iter().filter_map(|word| schema.get(*word));
            for inner in others.filter(|_| own.is_none()) {
                self.meet(inner, field, depth)?;
            }
            if let Some(inner) = schema.get("propertyNames") {
                self.meet(inner, &Value::String(name.clone()), depth)?;
            }
        }
        Some(())
    }

    fn items(&mut self, schema: &'a Map<String, Value>, items: &[Value], depth: usize) -> Option<()> {
        let by_place = ["prefixItems", "items"].iter().find_map(|word| schema.get(*word)?.as_array());
        for (n, item) in items.iter().enumerate() {
            self.pay(1)?;
            if let Some(inner) = by_place.and_then(|list| list.get(n)) {
                self.meet(inner, item, depth)?;
            }
            for word in ["items", "additionalItems", "unevaluatedItems", "contains"] {
                if let Some(inner) = schema.get(word).filter(|inner| !inner.is_array()) {
                    self.meet(inner, item, depth)?;
                }
            }
        }
        Some(())
    }
}

/// What it takes to find out whether `number` is a multiple of `divisor`.
fn division(number: &Number, divisor: &Value) -> usize {
    let quotient = number.as_f64().zip(divisor.as_f64()).map(|(number, divisor)| (number / divisor).abs());
    if quotient.is_some_and(|quotient| quotient <= QUOTIENT_SHORT_MAX) { 1 } else { LONG_DIVISION }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Measured: 100 ns at the most where the quotient is short, 6 µs where it is not.
    #[test]
    fn a_division_costs_what_its_quotient_takes() {
        for (number, divisor, want) in [
            (json!(9), json!(3), 1),
            (json!(19.99), json!(0.01), 1),
            (json!(0), json!(1e-300), 1),
            (json!(1e300), json!(1e290), 1),
            (json!(u64::MAX), json!(0.25), 1),
            (json!(-1e21), json!(0.5), LONG_DIVISION),
            (json!(1e300), json!(0.1), LONG_DIVISION),
            (json!(f64::MAX), json!(1e-300), LONG_DIVISION),
            // No schema says this; if one did, nobody would know what it takes.
            (json!(1), json!(0), LONG_DIVISION),
        ] {
            assert_eq!(division(number.as_number().unwrap(), &divisor), want, "{number} by {divisor}");
        }
        let list = json!({"items": {"multipleOf": 0.1}});
        let cost = |item: f64| of(&list, &refs::marks(&list), &json!(vec![item; 200_000]), crate::COST_MAX);
        assert!(cost(7.5).is_some());
        assert_eq!(cost(f64::MAX), None);
    }

    #[test]
    fn what_is_counted_grows_with_what_is_looked_at() {
        let list = json!({"items": {"type": "integer"}});
        let numbers = |count: usize| Value::Array(vec![json!(1); count]);
        let of = |schema: &Value, value: &Value, most: u64| of(schema, &refs::marks(schema), value, most);
        let cost = |schema: &Value, value: &Value| of(schema, value, 1 << 40).unwrap();
        assert_eq!(cost(&json!(true), &json!(1)), 1);
        assert_eq!(cost(&list, &numbers(0)), 2);
        assert_eq!(cost(&list, &numbers(1_000)) - cost(&list, &numbers(999)), 3);
        // A list of words is gone through for each item, a text for each pattern.
        let words = json!({"items": {"enum": vec!["word"; 500]}});
        assert!(cost(&words, &numbers(1_000)) > 500_000);
        assert!(cost(&json!({"pattern": "a"}), &json!("a".repeat(9_000))) > 9_000);
        // Each turn of a tree that branches is counted as often as it is taken.
        let tree = json!({"anyOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}]});
        let nested = |levels: usize| (0..levels).fold(json!([]), |inner, _| json!([inner]));
        assert!(cost(&tree, &nested(12)) > 1 << 12);
        assert_eq!(of(&tree, &nested(40), 1_000_000), None);
        let linear = json!({"items": {"$ref": "#"}});
        assert!(cost(&linear, &nested(40)) < 500);
        assert_eq!(of(&linear, &nested(600), 1_000_000), None, "too deep for a stack");
    }
}
