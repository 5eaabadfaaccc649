//! Takes out of a connection string what the driver does not know: `sslmode` with all its values, and `sslrootcert`.
//!
//! Invariant: everything else goes to the driver as it was. Both spellings are read, `postgresql://…?a=b` and
//! `a=b c='d e'`; what is neither is left for the driver to refuse. Messages repeat nothing of the string, which holds
//! a password.

/// A connection string, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) rest: String,
    pub(super) mode: Option<String>,
    pub(super) root: Option<String>,
}

impl Parts {
    /// Keeps a pair that is ours. `false`: it is the driver's.
    fn take(&mut self, name: &str, value: impl FnOnce() -> String) -> bool {
        match name {
            "sslmode" => self.mode = Some(value()),
            "sslrootcert" => self.root = Some(value()),
            _ => return false,
        }
        true
    }
}

pub(super) fn split(text: &str) -> Result<Parts, String> {
    if is_url(text) {
        return Ok(split_url(text));
    }
    let parts = split_words(text)?;
    // The driver would read it as the other spelling, with whatever stands in it.
    if is_url(&parts.rest) {
        return Err("the connection string is written in two ways at once".to_owned());
    }
    Ok(parts)
}

fn is_url(text: &str) -> bool {
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}

fn split_url(text: &str) -> Parts {
    // As the driver reads it: a `?` before the `@` belongs to the password.
    let host = text.find('@').unwrap_or(0);
    let Some(mark) = text.get(host..).and_then(|rest| rest.find('?')) else {
        return Parts { rest: text.to_owned(), ..Parts::default() };
    };
    let (before, query) = text.split_at(host + mark);
    let mut parts = Parts { rest: before.to_owned(), ..Parts::default() };
    let mut joint = '?';
    for pair in query.strip_prefix('?').unwrap_or(query).split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !parts.take(name, || decoded(value)) {
            parts.rest.push(joint);
            parts.rest.push_str(pair);
            joint = '&';
        }
    }
    parts
}

/// Percent-decoded; what is no code stays.
fn decoded(text: &str) -> String {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        match piece.get(..2).and_then(|code| hex::decode(code).ok()) {
            Some(byte) => {
                bytes.extend(byte);
                bytes.extend(piece.bytes().skip(2));
            }
            None => {
                bytes.push(b'%');
                bytes.extend(piece.bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn split_words(text: &str) -> Result<Parts, String> {
    let mut parts = Parts::default();
    let mut left = text.trim_start();
    while !left.is_empty() {
        let (name, after) =
            left.split_once('=').ok_or("the connection string ends in a name without a value")?;
        let after = after.trim_start();
        let (value, length) = value(after)?;
        let (raw, next) = after.split_at(length);
        let name = name.trim_end();
        if !parts.take(name, || value) {
            parts.rest.extend([name, "=", raw, " "]);
        }
        left = next.trim_start();
    }
    parts.rest.truncate(parts.rest.trim_end().len());
    Ok(parts)
}

/// A value without its quotes and backslashes, and how many bytes it takes.
fn value(text: &str) -> Result<(String, usize), String> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut chars = text.char_indices().skip(usize::from(quoted));
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Ok((value, at + 1)),
            space if !quoted && space.is_whitespace() => return Ok((value, at)),
            other => value.push(other),
        }
    }
    if quoted {
        Err("a quote in the connection string is not closed".to_owned())
    } else {
        Ok((value, text.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_is_taken_out_and_the_rest_stays() {
        for (text, rest, mode, root) in [
            ("postgresql://u:p@h/d", "postgresql://u:p@h/d", None, None),
            ("postgres://h?sslmode=require", "postgres://h", Some("require"), None),
            (
                "postgresql://u:a?b@h:1/d?options=-c%20x&sslmode=verify-full&sslrootcert=%2Fca%20x.pem&a=b",
                "postgresql://u:a?b@h:1/d?options=-c%20x&a=b",
                Some("verify-full"),
                Some("/ca x.pem"),
            ),
            (
                "postgresql://h?sslmode=a&sslmode=b&sslrootcert=%zz%",
                "postgresql://h",
                Some("b"),
                Some("%zz%"),
            ),
            ("host=h user=u", "host=h user=u", None, None),
            ("host=h sslmode=require user=u", "host=h user=u", Some("require"), None),
            (
                " host = h  password='it\\'s a \\'test\\' sslmode=x' sslrootcert='/a b/c.pem' sslmode = 'verify-ca' ",
                "host=h password='it\\'s a \\'test\\' sslmode=x'",
                Some("verify-ca"),
                Some("/a b/c.pem"),
            ),
            ("password=a\\ b sslmode=disable", "password=a\\ b", Some("disable"), None),
            ("", "", None, None),
        ] {
            let parts = split(text).unwrap();
            assert_eq!(parts.rest, rest, "{text}");
            assert_eq!((parts.mode.as_deref(), parts.root.as_deref()), (mode, root), "{text}");
        }
        for bad in ["not an address", "password='secret"] {
            let words = split(bad).unwrap_err();
            assert!(!words.contains("secret") && !words.contains("address"), "{words}");
        }
    }

    use proptest::prelude::*;

    /// Pieces of both spellings, in an order that makes sense or not.
    fn strings() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("postgresql://"),
            Just("postgres://"),
            Just("user=u "),
            Just("host=h"),
            Just("sslmode="),
            Just("?sslmode="),
            Just("&sslrootcert="),
            Just("sslrootcert='/no/such file'"),
            Just("verify-full"),
            Just("require"),
            Just("@"),
            Just("?"),
            Just("&"),
            Just("="),
            Just("'"),
            Just("\\\\"),
            Just(" "),
            Just("%2F"),
            Just("%"),
            Just("é"),
            Just(":5432"),
            Just("[::1]"),
            Just("\\0"),
            Just("port=99999"),
            Just("options=-c%20x"),
        ];
        proptest::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
    }

    #[test]
    fn a_second_question_mark_is_part_of_a_name() {
        for (text, rest) in [
            ("postgresql://?sslmode=&?", "postgresql://??"),
            ("postgresql://??", "postgresql://??"),
            ("postgresql://??sslmode=x", "postgresql://??sslmode=x"),
        ] {
            assert_eq!(split(text).unwrap().rest, rest, "{text}");
        }
    }

    proptest! {
        /// What is left has nothing of ours any more, and is left as it is; and the driver reads or refuses it.
        #[test]
        fn any_string_is_taken_apart_or_refused(text in prop_oneof![strings(), "\\PC{0,30}"]) {
            if let Ok(parts) = split(&text) {
                let again = split(&parts.rest).unwrap();
                prop_assert_eq!((&again.mode, &again.root), (&None, &None), "{}", parts.rest);
                prop_assert_eq!(again.rest, parts.rest);
            }
            let secret = lantern_types::Secret::new(text);
            drop(super::super::tls::Way::parse(&secret));
        }
    }
}
