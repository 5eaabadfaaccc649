//! `.env.local`: variables for `lantern dev` in the working directory, so that a checkout need not be set up twice.
//!
//! Invariant: the real environment wins, and only `dev` (and what explains it) reads the file. A line that makes no sense,
//! or a name of ours that nobody reads, is refused: a typo would otherwise pass for a setting.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use super::{stray, strays};

/// The file's name.
pub(crate) const FILE: &str = ".env.local";

/// The variables of the file, if there is one; else why it cannot be used, and what to do.
pub(super) fn read(file: &Path) -> Result<Option<BTreeMap<String, String>>, (String, String)> {
    match std::fs::read_to_string(file) {
        Ok(text) => parse(&text).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err((format!("cannot read {FILE}: {error}"), format!("make {FILE} readable, or remove it")))
        }
    }
}

fn parse(text: &str) -> Result<BTreeMap<String, String>, (String, String)> {
    let mut found = BTreeMap::new();
    let lines = text.lines().map(str::trim).enumerate();
    for (index, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Some((name, value)) = line.split_once('=').filter(|(name, _)| is_name(name.trim())) else {
            // Not the line itself: it may be a secret.
            let what = format!("line {} of {FILE} is no setting", index + 1);
            return Err((what, "write each as NAME=value".to_owned()));
        };
        let name = name.trim();
        if strays(name) {
            return Err(stray(name, FILE));
        }
        found.insert(name.to_owned(), unquoted(value.trim()).to_owned());
    }
    Ok(found)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn unquoted(value: &str) -> &str {
    let inside = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    inside('"').or_else(|| inside('\'')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_shells_write_them() {
        let text = "# mine\n\nLANTERN_LISTEN=127.0.0.1:9\nexport OPENAI_API_KEY='sk-a=b'\n OTHER = \"x y\" \nEMPTY=\n";
        let read: Vec<_> = parse(text).unwrap().into_iter().collect();
        let want = [
            ("EMPTY", ""),
            ("LANTERN_LISTEN", "127.0.0.1:9"),
            ("OPENAI_API_KEY", "sk-a=b"),
            ("OTHER", "x y"),
        ];
        assert_eq!(read, want.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn what_makes_no_sense_is_refused_without_being_shown() {
        for (text, what, next) in [
            ("sk-secret", "line 1", "NAME=value"),
            ("A=1\nb c=2", "line 2", "NAME=value"),
            ("LANTERN_LISTN=127.0.0.1:9", "LANTERN_LISTN", "did you mean LANTERN_LISTEN?"),
            ("LANTERN_ZZZZZZZZZZZZZZZZZZZZZZZ=1", "nothing reads", "docs/environment.md"),
        ] {
            let (said, advice) = parse(text).unwrap_err();
            assert!(said.contains(what) && advice.contains(next), "{said}: {advice}");
            assert!(!said.contains("secret"), "{said}");
        }
    }

    proptest::proptest! {
        /// A file is read or refused without a word of a value, and what was read is read again when it is written.
        #[test]
        fn any_text_is_settings_or_refused(
            text in "((export )?[A-Z_]{0,4} ?=? ?['\"]?(sk-secret|[ -~é]{0,6})['\"]?\n|#[a-z]*\n|LANTERN_[A-Z]{1,6}=x\n|\\PC|[\u{0}-\u{1f}]){0,6}",
        ) {
            match parse(&text) {
                Ok(found) => {
                    let line = |(name, value): (&String, &String)| format!("{name}=\"{value}\"\n");
                    let written = found.iter().map(line).collect::<Vec<_>>().concat();
                    proptest::prop_assert_eq!(parse(&written), Ok(found));
                }
                Err((what, next)) => {
                    proptest::prop_assert!(!format!("{what}{next}").contains("sk-secret"), "{}", what);
                }
            }
        }
    }
}
