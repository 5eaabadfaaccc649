//! Files made to be misread: keys and signatures that pass too easily, other forms of the same, and what is too deep, too long or
//! not there. Neither verifier believes one, and neither breaks down over one.

use lantern_types::Digest;
use lantern_verify::verify;
use serde_json::Value;

use crate::forged::{Story, signer};
use crate::{Folder, keys, other, receipts};

/// The order of the group, with its lowest byte first.
const ORDER: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";
/// Points of small order, one of them in a second encoding: any message has a signature under each.
const WEAK: [&str; 4] = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

fn base64(bytes: &[u8]) -> String {
    let table = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let word =
            three.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for n in 0..4 {
            let digit = usize::try_from(word >> (18 - 6 * n) & 63).unwrap();
            out.push(if n > three.len() { '=' } else { char::from(table[digit]) });
        }
    }
    out
}

/// The same signature with the group's order added to its second half.
fn malleated(signature: &[u8; 64]) -> [u8; 64] {
    let (mut bytes, mut carry) = (*signature, 0_u16);
    for (byte, add) in bytes[32..].iter_mut().zip(hex::decode(ORDER).unwrap()) {
        carry += u16::from(*byte) + u16::from(add);
        *byte = u8::try_from(carry & 0xff).unwrap();
        carry >>= 8;
    }
    bytes
}

/// The file with another key, under which the signatures of the payload and of the head are `signature`.
fn under(text: &str, key: &[u8], signature: &[u8]) -> String {
    let file: Value = serde_json::from_str(text).unwrap();
    let said = |name: &str| file[name].as_str().unwrap().to_owned();
    let (checkpoint, log) = (said("checkpoint"), file["payload"]["log"].as_str().unwrap().to_owned());
    let line = checkpoint.trim_end().rsplit(' ').next().unwrap().to_owned();
    let name = Digest::of(&[log.as_bytes(), b"\n\x01", key].concat());
    let signed = base64(&[&name.bytes()[..4], signature].concat());
    let id = hex::encode(&Digest::of(key).bytes()[..8]);
    text.replace(&said("publicKey"), &base64(key))
        .replace(&said("keyId"), &id)
        .replace(&said("signature"), &base64(signature))
        .replace(&line, &signed)
}

/// Demands that nobody believes any of these, whichever of these keys are trusted.
fn refused(name: &str, trusted: &[String], files: &[(String, Vec<u8>)]) {
    let folder = Folder::new(name);
    let listed: Vec<String> = trusted.iter().map(|key| format!("{{\"publicKey\":\"{key}\"}}")).collect();
    let published = folder.write("keys.json", format!("{{\"keys\":[{}]}}", listed.join(",")).as_bytes());
    let known: Vec<_> = trusted.iter().filter_map(|key| lantern_receipts::VerifyKey::parse(key)).collect();
    let mut written = Vec::new();
    for (n, (what, bytes)) in files.iter().enumerate() {
        assert!(verify(bytes, Some(&known)).is_err() && verify(bytes, None).is_err(), "{what}");
        written.push(folder.write(&n.to_string(), bytes));
    }
    for ((what, _), (holds, line)) in files.iter().zip(other(&published, &written)) {
        assert!(!holds, "{what}: {line}");
    }
}

#[test]
fn keys_and_signatures_that_pass_too_easily_are_refused() {
    let story = || Story::with("\"provider\":").signed();
    let text = String::from_utf8(story()).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let own = signer().public();
    let mut trusted = vec![own.to_string()];
    let mut files = Vec::new();
    // The payload's signature once more, with the order added to it.
    let payload = lantern_receipts::File::parse(text.as_bytes()).unwrap().payload.bytes().unwrap();
    let again = base64(&malleated(signer().sign(&payload).bytes()));
    files.push((
        "the order added".to_owned(),
        text.replace(file["signature"].as_str().unwrap(), &again).into_bytes(),
    ));
    for weak in WEAK {
        let key = hex::decode(weak).unwrap();
        trusted.push(base64(&key));
        for first in WEAK {
            let signature = [hex::decode(first).unwrap(), vec![0; 32]].concat();
            let forged = under(&text, &key, &signature).into_bytes();
            files.push((format!("the key {weak} with {first}"), forged));
            let own = under(&text, &own.bytes(), &signature).into_bytes();
            files.push((format!("our key with {first}"), own));
        }
    }
    assert!(files.iter().all(|(what, bytes)| bytes != text.as_bytes() || what.is_empty()));
    refused("weak", &trusted, &files);
}

#[test]
fn other_forms_of_the_same_are_refused() {
    let (name, bytes) = receipts().remove(0);
    let text = String::from_utf8(bytes).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let said = |pointer: &str| file.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
    let (signature, chain, key) = (said("/signature"), said("/payload/journalHash"), said("/publicKey"));
    let (run, ended) = (said("/payload/runId"), said("/payload/finishedAt"));
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    let once = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1).into_bytes()
    };
    let bytes = text.as_bytes();
    let changed: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"\xff".to_vec(),
        b"null".to_vec(),
        b"\xef\xbb\xbf".iter().chain(bytes).copied().collect(),
        [bytes, b"\n"].concat(),
        [bytes, bytes].concat(),
        [bytes, b"\0"].concat(),
        once(&signature, signature.trim_end_matches('=')),
        once(&signature, &signature.replace('=', "%3d")),
        once(&signature, &signature.replace('+', "-").replace('/', "_").replace('=', "")),
        once(&key, &format!(" {key}")),
        once(&chain, &chain.to_uppercase()),
        once(&run, &run.to_uppercase()),
        once(&run, &run.replace('-', "")),
        once(&ended, &ended.replace('Z', "+00:00")),
        once(&ended, &ended.replace('Z', "0Z")),
        once("\"payload\":{", "\"payload\":{\"agentName\":\"x\","),
        once("\"payload\":{", "\"payload\":{},\"payload\":{"),
        once("{\"body\":", "{\"body\":\"\",\"body\":"),
        once("\"appends\":[", &format!("\"appends\":[{},", deep(100_000))),
        once("\"proof\":[", &format!("\"proof\":[{},", deep(200))),
        once("\"appends\":", &format!("\"more\":{},\"appends\":", deep(100_000))),
        once("\"logIndex\":", "\"logIndex\":1e"),
        once("\"logIndex\":", &format!("\"logIndex\":{}", "9".repeat(5_000))),
        once("\"tokensIn\":", "\"tokensIn\":-"),
        once("\"version\":2", "\"version\":2.0"),
        once("\"version\":2", "\"version\":NaN"),
        once("\"version\":2", "\"version\":true"),
        b"[".repeat(1 << 20),
        vec![b' '; 1 << 20],
    ];
    let files: Vec<_> =
        changed.into_iter().enumerate().map(|(n, bytes)| (format!("form {n} of {name}"), bytes)).collect();
    let trusted: Vec<String> = keys().iter().map(ToString::to_string).collect();
    refused("forms", &trusted, &files);
}

/// Whoever signs can sign anything. What they sign is one form too, is an event, and is something at all.
#[test]
fn what_is_signed_is_no_less_strict() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let mut files = Vec::new();
    for (n, (from, to)) in [
        ("\"seq\":1,", "\"seq\": 1,".to_owned()),
        ("\"seq\":1,", "\"seq\":1.0,".to_owned()),
        ("\"seq\":1,", "\"seq\":true,".to_owned()),
        ("\"seq\":1,", "\"seq\":01,".to_owned()),
        ("\"seq\":1,", "\"seq\":1,\"seq\":1,".to_owned()),
        ("\"type\":\"RunStarted\"", "\"type\":\"Run\\u0053tarted\"".to_owned()),
        ("\"depth\":0", format!("\"depth\":{deep}")),
        ("\"depth\":0", "\"depth\":1e400".to_owned()),
        ("\"cap\":", "\"cap\":-".to_owned()),
    ]
    .into_iter()
    .enumerate()
    {
        let mut story = Story::with("\"provider\":");
        story.lie("\"type\":\"RunStarted\"", from, &to);
        files.push((format!("{n}: {from}"), story.signed()));
    }
    let mut nothing = Story::with("\"provider\":");
    nothing.appends.clear();
    (nothing.payload.appends, nothing.payload.events) = (0, 0);
    nothing.payload.ended_by = lantern_receipts::EndedBy::Row;
    files.push(("a run without events".to_owned(), nothing.signed()));
    let mut empty = Story::with("\"provider\":");
    empty.appends.push((Digest::of(b""), Vec::new()));
    files.push(("an append that is not counted".to_owned(), empty.signed()));
    let mut spaced = Story::with("\"provider\":");
    spaced.payload.log = "a log".to_owned();
    files.push(("a log whose name has a space".to_owned(), spaced.signed()));
    refused("signed", &[signer().public().to_string()], &files);
}
