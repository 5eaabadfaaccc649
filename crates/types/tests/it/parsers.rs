//! What comes from outside as text, whatever it is: read or refused, and what was read is written as it would be read.

use lantern_types::{At, Digest, Dur, MicroUsd, RunId, ToolName};
use proptest::prelude::*;
use serde_json::Value;

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,40}|[0-9a-fA-F-]{0,40}|[0-9TZ:.+-]{0,40}|[a-z_.-]{0,80}") {
        if let Ok(at) = text.parse::<At>() {
            prop_assert_eq!(at.to_string().parse(), Ok(at));
        }
        if let Ok(id) = text.parse::<RunId>() {
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }
        if let Ok(name) = ToolName::parse(&text) {
            prop_assert_eq!(ToolName::parse(name.as_str()), Ok(name.clone()));
            prop_assert_eq!(ToolName::parse(&name.wire()), Ok(name.clone()));
            prop_assert!(!name.wire().contains('.'));
        }
        if let Some(dur) = Dur::parse(&text) {
            prop_assert_eq!(Dur::parse(&format!("{}ms", dur.millis())), Some(dur));
        }
        if let Some(money) = MicroUsd::parse_usd(&text) {
            let shown = money.to_string();
            prop_assert_eq!(MicroUsd::parse_usd(shown.trim_start_matches('$')), Some(money));
        }
        drop(serde_json::from_value::<Digest>(Value::String(text)));
    }

    /// A decimal that was written is the amount that was meant, in text and as a JSON number.
    #[test]
    fn dollars_are_exact(whole in 0_i64..9_000_000, micros in 0_i64..1_000_000) {
        let want = MicroUsd::from_micros(whole * 1_000_000 + micros);
        let text = format!("{whole}.{micros:06}");
        prop_assert_eq!(MicroUsd::parse_usd(&text), Some(want));
        let number: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(MicroUsd::of_json(&number), Some(want));
        // A seventh decimal is no amount.
        prop_assert_eq!(MicroUsd::parse_usd(&format!("{text}1")), None);
    }

    /// Any number of JSON is an amount or is refused; what is taken is what the number says.
    #[test]
    fn numbers_are_dollars_or_refused(number in any::<f64>().prop_filter("JSON has no others", |f| f.is_finite())) {
        let value = serde_json::json!(number);
        if let Some(money) = MicroUsd::of_json(&value) {
            prop_assert!((money.to_wire() - number).abs() <= number.abs() * f64::EPSILON, "{} is not {}", money, number);
        }
    }

    #[test]
    fn every_time_is_written_as_it_is_read(micros in -62_000_000_000_000_000_i64..250_000_000_000_000_000) {
        let at = At::from_micros(micros);
        prop_assert_eq!(at.to_string().parse(), Ok(at));
    }
}
