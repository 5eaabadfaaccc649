//! What a registry answers to who shows nothing: where a token is to be had, and for what. Pure.

/// A challenge of the scheme `Bearer`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) realm: String,
    pub(super) service: Option<String>,
}

/// Characters of one value.
const VALUE_MAX: usize = 1_000;

/// Reads `WWW-Authenticate`. `None` for another scheme, or what cannot be read.
pub(super) fn read(header: &str) -> Option<Challenge> {
    let (scheme, mut rest) = header.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let mut challenge = Challenge::default();
    loop {
        rest = rest.trim_start_matches([' ', ',']);
        let Some((name, after)) = rest.split_once('=') else { break };
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if value.len() > VALUE_MAX || value.contains('\\') {
            return None;
        }
        match name.trim().to_ascii_lowercase().as_str() {
            "realm" => value.clone_into(&mut challenge.realm),
            "service" => challenge.service = Some(value.to_owned()),
            // What it may do is what is needed, whatever the registry says.
            _ => {}
        }
        rest = left;
    }
    (!challenge.realm.is_empty()).then_some(challenge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let read = |text: &str| read(text).map(|read| (read.realm, read.service.unwrap_or_default()));
        let found = |realm: &str, service: &str| Some((realm.to_owned(), service.to_owned()));
        for (text, want) in [
            (
                r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a:pull""#,
                found("https://auth.example/token", "registry.example"),
            ),
            (r#"bearer  realm="https://a/?b=c,d" , error=x"#, found("https://a/?b=c,d", "")),
            ("Bearer realm=https://a/t,service=s", found("https://a/t", "s")),
            (r#"Basic realm="x""#, None),
            (r#"Bearer service="x""#, None),
            (r#"Bearer realm="x"#, None),
            ("Bearer", None),
            ("", None),
        ] {
            assert_eq!(read(text), want, "{text}");
        }
    }
}
