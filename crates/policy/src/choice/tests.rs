//! A choice that is read back is made again, whatever was there to choose from.

use super::*;
use crate::strategy::Strategy;
use crate::turns::turns;
use lantern_types::{At, MicroUsd, Payer, Tried, call::Period};

const fn at(secs: i64) -> At {
    At::from_micros(secs * 1_000_000)
}

fn provider(name: &str, self_hosted: bool, keys: u32, models: &[&str]) -> Provider {
    let models = models.iter().map(ToString::to_string).collect();
    Provider { name: name.to_owned(), self_hosted, models, keys }
}

fn rests(provider: &str, model: &str, key: u32, until: i64) -> Cooling {
    Cooling { provider: provider.to_owned(), model: model.to_owned(), key, until: at(until) }
}

fn failed(provider: &str, model: &str, key: u32) -> Tried {
    let (provider, model) = (provider.to_owned(), model.to_owned());
    Tried { provider, model, key, code: "provider_unavailable".to_owned() }
}

fn several() -> Choices {
    let lab =
        provider("lab", true, 1, &["text-embedding-3-large", "llama", "gpt-4o", "meta/llama-3", "qwen"]);
    let providers = vec![provider("openai", false, 2, &[]), provider("anthropic", false, 1, &[]), lab];
    Choices { providers, ..Choices::default() }
}

/// Every situation beside every other one.
fn situations() -> Vec<Choices> {
    let dev = Choices { offline_stands_in: true, ..Choices::default() };
    let deaf =
        Choices { providers: vec![provider("lab", true, 1, &["nomic-embed-text"])], ..Choices::default() };
    let unknown = Choices { providers: vec![provider("lab", true, 1, &[])], ..Choices::default() };
    let mut all = vec![Choices::default(), dev, deaf, unknown, several()];
    for strategy in Strategy::ALL {
        all.push(Choices { strategy, ..several() });
        let table = ["lab/qwen", "gpt-4o-mini", "gpt-4o", "meta/llama-3"].map(str::to_owned).to_vec();
        let aliases =
            Aliases::from([("chat-small".to_owned(), table), ("code".to_owned(), vec!["gone/x".to_owned()])]);
        all.push(Choices { strategy, aliases, ..several() });
    }
    let gone: Vec<Cooling> =
        vec![rests("openai", "gpt-4o", 0, 20), rests("openai", "gpt-4o", 1, 5), rests("lab", "llama", 0, 30)];
    let troubled: Vec<Choices> =
        all.iter().map(|choices| Choices { cooling: gone.clone(), ..choices.clone() }).collect();
    all.extend(troubled);
    all
}

const ASKED: [&str; 14] = [
    "auto",
    "chat-large",
    "chat-small",
    "code",
    "embed-large",
    "gpt-4o",
    "gpt-9",
    "qwen",
    "lab/llama",
    "openai/gpt-4o",
    "nowhere/x",
    "meta/llama-3",
    "offline",
    "text-embedding-3-large",
];

#[test]
fn what_is_read_back_leads_to_the_same_choice() {
    let catalogue = Catalogue::builtin().unwrap();
    let histories = [
        vec![],
        vec![failed("openai", "gpt-4o", 0)],
        vec![failed("openai", "gpt-4o", 0), failed("lab", "llama", 0)],
    ];
    let (mut chosen, mut unlisted) = (0, 0);
    for (choices, asked) in situations().iter().flat_map(|choices| ASKED.map(|asked| (choices, asked))) {
        for (tried, spread) in histories.iter().flat_map(|tried| [(tried, 0), (tried, 7)]) {
            let past = Past { tried, now: at(10), spread };
            let then = turns(asked, choices, &catalogue, past);
            // Each of the ways is the one that is not too dear, and then none of them is.
            let ways = then.as_ref().map_or(0, Vec::len);
            for dear in 0..=ways {
                let passed: Vec<Passed> = then
                    .iter()
                    .flatten()
                    .take(dear)
                    .map(|route| Passed { route: route.clone(), out: Out::OverBudget, account: None })
                    .collect();
                let found = then.as_ref().ok().and_then(|turns| next(turns, &passed));
                assert_eq!(found, then.as_ref().ok().and_then(|turns| turns.get(dear)));
                let said = record(asked, choices, &catalogue, past, (&passed, found)).unwrap();
                if said.more > 0 {
                    unlisted += 1;
                    continue;
                }
                // The times of breakers are the record's; what the clock says does not matter any more.
                let again = turns(asked, &read(&said), &catalogue, Past { now: at(-1), ..past });
                let again = again.map_err(|denial| (denial.code, denial.reason));
                match (&then, &again) {
                    (Ok(_), Ok(again)) => {
                        assert_eq!(next(again, &passed), found, "{asked} {choices:?} {said:?}");
                    }
                    (Err(then), Err(again)) => assert_eq!((&then.code, &then.reason), (&again.0, &again.1)),
                    other => panic!("{asked} {other:?}"),
                }
                // Whoever knows no strategies finds it, too.
                let first = said.ways.iter().find(|way| way.out.is_none());
                let told = first.map(|way| (&way.provider, &way.model, way.key));
                assert_eq!(told, found.map(|route| (&route.provider, &route.model, route.key)), "{said:?}");
                let past = Past { now: at(-1), ..past };
                assert_eq!(
                    record(asked, &read(&said), &catalogue, past, (&passed, found)).as_ref(),
                    Some(&said)
                );
                chosen += usize::from(found.is_some());
            }
        }
    }
    assert!(chosen > 2_000 && unlisted == 0, "{chosen} choices were made again, {unlisted} were too long");
}

#[test]
fn why_each_was_left_out_is_told() {
    let catalogue = Catalogue::builtin().unwrap();
    let choices = Choices {
        cooling: vec![rests("openai", "gpt-4o", 1, 20)],
        keyless: vec!["far".to_owned()],
        ..several()
    };
    let tried = [failed("openai", "gpt-4o", 0)];
    let past = Past { tried: &tried, now: at(10), spread: 0 };
    let turns = turns("chat-large", &choices, &catalogue, past).unwrap();
    let usd = MicroUsd::from_micros;
    let account = AccountFacts {
        of: Payer::Tenant,
        period: Period::Day,
        began: at(0),
        cap: usd(9),
        spent: usd(5),
        held: usd(1),
        slice: None,
    };
    let passed = [Passed { route: turns[0].clone(), out: Out::OverCap, account: Some(account) }];
    let said = record("chat-large", &choices, &catalogue, past, (&passed, next(&turns, &passed))).unwrap();
    let outs: Vec<_> =
        said.ways.iter().map(|way| (way.model.as_str(), way.key, way.out.map(Out::as_str))).collect();
    assert_eq!(
        outs,
        [
            ("gpt-4o", 0, Some("tried")),
            ("gpt-4o", 1, Some("resting")),
            ("claude-sonnet-4-6", 0, Some("over_cap")),
            ("llama", 0, None),
        ]
    );
    assert_eq!((said.ways[1].until, said.ways[2].account), (Some(at(20)), Some(account)));
    assert_eq!(said.keyless, ["far"]);
}

#[test]
fn a_record_stays_small() {
    let catalogue = Catalogue::builtin().unwrap();
    let many: Vec<String> = (0..500).map(|n| format!("model-{n}")).collect();
    let lab = Provider { name: "lab".to_owned(), self_hosted: true, models: many, keys: 1 };
    let choices = Choices { providers: vec![provider("openai", false, 1, &[]), lab], ..Choices::default() };
    let past = Past { tried: &[], now: at(10), spread: 0 };
    for asked in ["auto", "gpt-4o", "lab/model-3", "model-499"] {
        let turns = turns(asked, &choices, &catalogue, past).unwrap();
        let said = record(asked, &choices, &catalogue, past, (&[], turns.first())).unwrap();
        let bytes = serde_json::to_string(&said).unwrap().len();
        assert!(bytes < 200, "{asked}: {bytes} bytes");
    }
    // So many keys that fail are not all written down, and the record says so.
    let busy = Choices { providers: vec![provider("openai", false, 40, &[])], ..Choices::default() };
    let tried: Vec<Tried> = (0..39).map(|key| failed("openai", "gpt-4o", key)).collect();
    let past = Past { tried: &tried, ..past };
    let turns = turns("openai/gpt-4o", &busy, &catalogue, past).unwrap();
    let said = record("openai/gpt-4o", &busy, &catalogue, past, (&[], turns.first())).unwrap();
    assert_eq!((said.ways.len(), said.more), (16, 24));
    assert_eq!(said.ways.last().map(|way| (way.key, way.out)), Some((39, None)));
    assert_eq!(record(&"x".repeat(201), &busy, &catalogue, past, (&[], None)), None);
}
