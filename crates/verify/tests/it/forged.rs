//! A server that lies and signs it: the file is whole, and the first event that does not follow is named.

use lantern_receipts::payload::Usd;
use lantern_receipts::{Checkpoint, File, Payload, Signer, Written, entry, merkle, tile};
use lantern_types::{ChainHead, Digest, MicroUsd, Secret, link};
use lantern_verify::{Fault, verify};
use serde_json::Value;

use crate::{Folder, other, receipts};

/// What a receipt says, to be changed and signed again.
pub(crate) struct Story {
    pub(crate) appends: Vec<(Digest, Vec<String>)>,
    pub(crate) payload: Payload,
}

pub(crate) fn signer() -> Signer {
    Signer::new(&Secret::new([42; 32]))
}

impl Story {
    /// A recorded receipt that has an event with these words.
    pub(crate) fn with(words: &str) -> Self {
        let found = receipts().into_iter().find(|(_, bytes)| String::from_utf8_lossy(bytes).contains(words));
        let (_, bytes) = found.unwrap_or_else(|| panic!("no recorded receipt has {words}"));
        let file = File::parse(&bytes).unwrap();
        let events = |append: &lantern_receipts::Append<'_>| {
            append.events.iter().map(|e| e.get().to_owned()).collect()
        };
        let appends = file.appends.iter().flatten().map(|append| (append.body, events(append))).collect();
        Self { appends, payload: file.payload }
    }

    pub(crate) fn events(&mut self) -> impl Iterator<Item = &mut String> {
        self.appends.iter_mut().flat_map(|(_, events)| events.iter_mut())
    }

    /// Writes `to` for `from` in the first event that has `words`, and answers that event's number.
    pub(crate) fn lie(&mut self, words: &str, from: &str, to: &str) -> u64 {
        let found = self.events().zip(1..).find(|(event, _)| event.contains(words) && event.contains(from));
        let (event, seq) = found.unwrap_or_else(|| panic!("no event has {words} and {from}"));
        *event = event.replacen(from, to, 1);
        seq
    }

    /// Removes the first event with these words and numbers the rest anew; answers the number that it had.
    fn leave_out(&mut self, words: &str) -> u64 {
        let seq = self.events().zip(1..).find(|(event, _)| event.contains(words)).unwrap().1;
        for (_, events) in &mut self.appends {
            events.retain(|event| !event.starts_with(&format!("{{\"seq\":{seq},")));
        }
        for (event, n) in self.events().zip(1_u64..) {
            let rest = event.split_once(',').unwrap().1.to_owned();
            *event = format!("{{\"seq\":{n},{rest}");
        }
        self.payload.events -= 1;
        seq
    }

    /// Puts events of these kinds, each with these members, before the first model call is admitted; answers that admission's number then.
    fn ask_before_admission(&mut self, kinds: &[&str]) -> u64 {
        let seq = self.events().zip(1_u64..).find(|(event, _)| event.contains("\"route\":")).unwrap().1;
        let head = format!("{{\"seq\":{seq},");
        for (_, events) in &mut self.appends {
            let Some(place) = events.iter().position(|event| event.starts_with(&head)) else { continue };
            let told: Value = serde_json::from_str(&events[place]).unwrap();
            for (n, kind) in kinds.iter().enumerate() {
                let (at, step) = (&told["at"], &told["step"]);
                let says = match *kind {
                    "CapAsked" => OVER,
                    _ => "\"answer\":{\"status\":\"granted\",\"by\":\"ada\",\"more\":5}",
                };
                let line = format!("{{\"seq\":0,\"at\":{at},\"type\":\"{kind}\",\"step\":{step},{says}}}");
                events.insert(place + n, line);
            }
        }
        for (event, n) in self.events().zip(1_u64..) {
            let rest = event.split_once(',').unwrap().1.to_owned();
            *event = format!("{{\"seq\":{n},{rest}");
        }
        self.payload.events += kinds.len() as u64;
        seq + kinds.len() as u64
    }

    pub(crate) fn signed(mut self) -> Vec<u8> {
        let lines =
            |events: &[String]| events.iter().flat_map(|event| [event.as_str(), "\n"]).collect::<String>();
        let appends: Vec<(Vec<u8>, Digest)> =
            self.appends.iter().map(|(body, events)| (lines(events).into_bytes(), *body)).collect();
        let head = appends.iter().fold(ChainHead::genesis(), |head, (lines, body)| link(head, lines, *body));
        (self.payload.journal_hash, self.payload.log_index) = (head.0, 0);
        let payload = self.payload.bytes().unwrap();
        let grown = tile::append(0, tile::Tiles::new(), &[entry(&payload)]).unwrap();
        let proof = merkle::inclusion(0, 1, &mut |level, n| tile::find(&grown.tiles, level, n)).unwrap();
        let checkpoint =
            Checkpoint { origin: self.payload.log.clone(), size: 1, root: grown.root }.sign(&signer());
        let written = Written {
            signature: signer().sign(&payload),
            key: signer().public(),
            payload,
            proof,
            checkpoint,
        };
        written.bytes(Some(&appends)).unwrap()
    }

    fn fault(self) -> Fault {
        verify(&self.signed(), Some(&[signer().public()])).unwrap_err()
    }
}

#[test]
fn what_was_only_signed_again_holds() {
    for (name, bytes) in receipts() {
        let file = File::parse(&bytes).unwrap();
        let story = Story::with(&file.payload.run_id.to_string());
        assert!(verify(&story.signed(), Some(&[signer().public()])).is_ok(), "{name}");
    }
}

#[test]
fn the_first_event_that_does_not_follow_is_named() {
    for (event, from, to, rule) in [
        ("\"type\":\"RunStarted\"", "\"depth\":", "\"depht\":", "form"),
        ("\"type\":\"RunStarted\"", "\"depth\":", "\"depth\":0,\"depth\":", "form"),
        ("\"type\":\"Finished\"", "\"type\":\"Finished\"", "\"type\":\"Vanished\"", "form"),
        ("\"route\":", "\"spent\":", "\"spent\":1", "facts"),
        ("\"route\":", "\"hold\":", "\"hold\":1", "hold"),
        ("\"route\":", "\"maxTokens\":", "\"maxTokens\":1", "hold"),
        ("\"type\":\"StepAdmitted\"", "\"cap\":", "\"cap\":9", "facts"),
        ("\"type\":\"StepAdmitted\"", "\"generation\":1", "\"generation\":2", "generation"),
        ("\"type\":\"StepAdmitted\"", "\"attempt\":1", "\"attempt\":2", "attempt"),
        ("\"grant\":{\"hold\":0,\"facts\"", "\"calls\":0", "\"calls\":7", "facts"),
        ("\"provider\":", "\"tokensIn\":", "\"tokensIn\":9", "bill"),
        ("\"provider\":", "\"cost\":", "\"cost\":9", "bill"),
        ("\"type\":\"StepSettled\"", "\"attempt\":", "\"attempt\":1", "attempt"),
        ("\"acted\":\"unknown\",\"due\"", "\"acted\":\"unknown\"", "\"acted\":\"yes\"", "generation"),
        ("\"type\":\"StepReissued\"", "\"attempt\":", "\"attempt\":1", "attempt"),
        ("\"kind\":\"llm\",\"effect\"", "\"effect\":\"keyed\"", "\"effect\":\"pure\"", "class"),
        ("\"type\":\"StepAbandoned\"", "\"code\"", "\"cost\":1,\"code\"", "form"),
        ("\"out\":\"over_budget\"", "\"strategy\":\"balanced\"", "\"strategy\":\"cheap\"", "route"),
        ("\"out\":\"over_budget\"", "over_budget", "tried", "route"),
        ("\"out\":\"tried\"", "\"out\":\"tried\"", "\"out\":\"resting\",\"until\":1", "route"),
        ("\"out\":\"tried\"", ",\"out\":\"tried\"", "", "route"),
        ("\"choice\"", "{\"name\":\"openai\"},", "", "route"),
        ("\"grounds\"", "\"spent\":", "\"spent\":1", "facts"),
        ("\"grounds\"", "\"listed\":false", "\"listed\":true", "denial"),
        ("\"code\":\"tool_call_limit\"", "\"callsMax\":2", "\"callsMax\":9", "denial"),
    ] {
        let mut story = Story::with_event(event, from);
        let seq = story.lie(event, from, to);
        let fault = story.fault();
        assert_eq!((fault.event, fault.rule), (Some(seq), rule), "{event}: {from} as {to}: {fault}");
    }
}

/// What the facts of an admission could say of a cap.
fn account(of: &str, began: i64, amounts: [i64; 4]) -> String {
    let [cap, spent, held, slice] = amounts;
    format!(
        "{{\"of\":\"{of}\",\"period\":\"day\",\"began\":{began},\"cap\":{cap},\"spent\":{spent},\"held\":{held},\"slice\":{slice}}}"
    )
}

/// A run that paid for a call, whose first such admission says this of its caps; and the number of that event.
fn within(account: &str) -> (Story, u64) {
    let (paid, end) = ("\"priceSource\":\"catalogue\"", "]}},\"policy\"");
    let mut story = Story::with_event(paid, "\"choice\"");
    let seq = story.lie("\"choice\"", end, &format!("]}},\"accounts\":[{account}]}},\"policy\""));
    (story, seq)
}

const BEGAN: i64 = 1_800_000_000_000_000;

/// Accounts, and whether a hold of a few hundred may pass within them.
fn accounts() -> [(bool, String); 7] {
    let later = BEGAN + 86_400_000_000;
    [
        (true, account("tenant", BEGAN, [1_000_000, 5, 100_000, 100_000])),
        (true, account("agent", BEGAN, [100_005, 5, 100_000, 50_000])),
        (false, account("tenant", BEGAN, [1_000_000, 5, 100_000, 0])),
        (false, account("tenant", BEGAN, [1_000_000, 5, 100_000, 100_001])),
        (false, account("tenant", BEGAN, [100_004, 5, 100_000, 100_000])),
        (false, account("key", BEGAN, [1_000_000, 5, 100_000, 100_000])),
        (false, account("tenant", later, [1_000_000, 5, 100_000, 100_000])),
    ]
}

#[test]
fn a_hold_passes_within_each_cap_or_not_at_all() {
    for (may, account) in accounts() {
        let (story, seq) = within(&account);
        let verified = verify(&story.signed(), Some(&[signer().public()]));
        match verified {
            Ok(_) => assert!(may, "{account}"),
            Err(fault) => assert_eq!((may, fault.event), (false, Some(seq)), "{account}: {fault}"),
        }
    }
}

#[test]
fn choices_and_denials_are_made_again_and_what_was_not_recorded_is_said() {
    let (mut choices, mut denials, mut untold) = (0, 0, 0);
    for (name, bytes) in receipts() {
        let derived = verify(&bytes, None).unwrap_or_else(|fault| panic!("{name}: {fault}")).derived;
        let text = String::from_utf8_lossy(&bytes);
        let count = |words: &str| text.matches(words).count() as u64;
        let denied = count("\"type\":\"StepDenied\"");
        assert_eq!(derived.denials + derived.untold, denied, "{name}: each denial is one or the other");
        assert!(derived.choices <= derived.admissions, "{name}");
        choices += derived.choices;
        denials += derived.denials;
        untold += derived.untold;
    }
    assert!(choices > 3 && denials > 1, "{choices} choices, {denials} denials, {untold} not told");
    // Without its grounds a denial stands where it may, and that is all that is said of it.
    let mut story = Story::with("\"grounds\"");
    let event = story.events().find(|event| event.contains("\"grounds\"")).unwrap();
    *event = format!("{}}}", event.split_once(",\"grounds\"").unwrap().0);
    let derived = verify(&story.signed(), Some(&[signer().public()])).unwrap().derived;
    assert_eq!((derived.denials, derived.untold), (0, 1));
}

/// What a question about a cap says.
const OVER: &str = "\"over\":{\"owner\":\"tenant\",\"period\":\"day\",\"beganAt\":0,\"endsAt\":86400000000,\"asked\":0,\"cap\":10,\"spent\":9,\"hold\":100}";

#[test]
fn a_question_about_a_cap_is_answered_before_its_step_is_admitted() {
    let (folder, mut files) = (Folder::new("asked"), Vec::new());
    for (kinds, rule) in [
        (&["CapAsked", "CapAnswered"][..], None),
        (&["CapAsked", "CapAnswered", "CapAsked", "CapAnswered"], None),
        (&["CapAsked"], Some("cap")),
        (&["CapAnswered"], Some("cap")),
        (&["CapAsked", "CapAsked", "CapAnswered"], Some("cap")),
    ] {
        let mut story = Story::with("\"route\":");
        story.ask_before_admission(kinds);
        let signed = story.signed();
        let found = verify(&signed, Some(&[signer().public()]));
        assert_eq!(found.as_ref().map(drop).map_err(|fault| fault.rule).err(), rule, "{kinds:?}: {found:?}");
        if rule.is_none() {
            files.push(folder.write(&format!("asked-{}", kinds.len()), &signed));
        }
    }
    // The second verifier adds up money, and takes the rest as it is.
    let document = serde_json::json!({"keys": [{"publicKey": signer().public().to_string()}]});
    let keys = folder.write("keys.json", document.to_string().as_bytes());
    for (holds, line) in other(&keys, &files) {
        assert!(holds, "{line}");
    }
}

#[test]
fn what_is_left_out_is_missed() {
    for (event, rule) in [
        ("\"type\":\"StepAdmitted\"", "attempt"),
        ("\"type\":\"ApprovalGranted\"", "order"),
        ("\"type\":\"SignalReceived\"", "signal"),
        ("\"type\":\"StepReadmitted\"", "order"),
        ("\"type\":\"StepInDoubt\"", "order"),
        ("\"type\":\"CancelRequested\"", "end"),
        ("\"type\":\"RunStarted\"", "start"),
        ("\"type\":\"Resumed\"", "held back"),
    ] {
        let mut story = Story::with(event);
        let seq = story.leave_out(event);
        let fault = story.fault();
        assert!(fault.event.is_some_and(|event| event >= seq), "{event}: {fault}");
        assert_eq!(fault.rule, rule, "{event}: {fault}");
    }
}

#[test]
fn a_payload_that_says_otherwise_is_refused() {
    type Change = fn(&mut Payload);
    let changes: [(&str, Change); 12] = [
        ("cost", |p| {
            p.cost_micro_usd = MicroUsd::from_micros(p.cost_micro_usd.micros() + 1);
            p.cost_usd = Usd(p.cost_micro_usd);
        }),
        ("unconfirmed", |p| {
            p.unconfirmed_micro_usd = MicroUsd::from_micros(p.unconfirmed_micro_usd.micros() + 1);
        }),
        ("cap", |p| p.cap_micro_usd = MicroUsd::from_micros(p.cap_micro_usd.micros() + 1)),
        ("tokens", |p| p.tokens_out += 1),
        ("status", |p| p.status = "refunded".to_owned()),
        ("version", |p| p.agent_version = Digest::of(b"another")),
        ("policies", |p| p.policies.push(Digest::of(b"another"))),
        ("models", |p| p.models.push("z/another".to_owned())),
        ("limits", |p| p.limits = Digest::of(b"another")),
        ("catalogue", |p| p.catalogue = Digest::of(b"another")),
        ("events", |p| p.events += 1),
        ("appends", |p| p.appends += 1),
    ];
    for (name, change) in changes {
        let mut story = Story::with("\"provider\":");
        change(&mut story.payload);
        let fault = story.fault();
        assert!(fault.event.is_none() && ["totals", "chain"].contains(&fault.rule), "{name}: {fault}");
    }
}

/// The other verifier adds up too, and checks holds, bills, caps and totals.
#[test]
fn lies_about_money_are_found_by_the_other_verifier_too() {
    let folder = Folder::new("forged");
    let published = format!("{{\"keys\":[{{\"publicKey\":\"{}\"}}]}}", signer().public());
    let keys = folder.write("keys.json", published.as_bytes());
    let mut files = vec![folder.write("true", &Story::with("\"provider\":").signed())];
    for (n, (event, from, to)) in [
        ("\"route\":", "\"spent\":", "\"spent\":1"),
        ("\"route\":", "\"hold\":", "\"hold\":1"),
        ("\"type\":\"StepAdmitted\"", "\"cap\":", "\"cap\":9"),
        ("\"provider\":", "\"tokensIn\":", "\"tokensIn\":9"),
        ("\"provider\":", "\"cost\":", "\"cost\":9"),
        ("\"type\":\"RunStarted\"", "\"depth\":", "\"depth\":0,\"depth\":"),
        ("\"out\":\"over_budget\"", ",\"out\":\"over_budget\"", ""),
        ("\"out\":\"tried\"", ",\"out\":\"tried\"", ""),
        ("\"grounds\"", "\"spent\":", "\"spent\":1"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut story = Story::with_event(event, from);
        story.lie(event, from, to);
        files.push(folder.write(&format!("false-{n}"), &story.signed()));
    }
    let mut story = Story::with("\"provider\":");
    story.payload.cost_micro_usd = MicroUsd::ZERO;
    story.payload.cost_usd = Usd(MicroUsd::ZERO);
    files.push(folder.write("free", &story.signed()));
    let mut wants = vec![true];
    wants.resize(files.len(), false);
    for (n, (may, account)) in accounts().into_iter().enumerate() {
        files.push(folder.write(&format!("account-{n}"), &within(&account).0.signed()));
        wants.push(may);
    }
    let lines = other(&keys, &files);
    for ((holds, line), want) in lines.iter().zip(wants) {
        assert_eq!(*holds, want, "{line}");
    }
}

impl Story {
    /// A recorded receipt of which one event has all of this.
    pub(crate) fn with_event(words: &str, more: &str) -> Self {
        let has = |bytes: &[u8]| {
            let file = File::parse(bytes).unwrap();
            let mut events = file.appends.iter().flatten().flat_map(|append| append.events.iter());
            events.any(|event| event.get().contains(words) && event.get().contains(more))
        };
        let found = receipts().into_iter().find(|(_, bytes)| has(bytes));
        let (_, bytes) = found.unwrap_or_else(|| panic!("no recorded event has {words} and {more}"));
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        Self::with(value["payload"]["runId"].as_str().unwrap())
    }
}
