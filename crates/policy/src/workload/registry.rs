//! Where an image comes from, and what it is called there. Pure.
//!
//! Invariant: a tag is a name until a registry said which digest it means, and no spec that is scheduled has one. A repository whose first
//! part is no host is one of this machine's own.

/// Hosts that are asked under another name than images have them under.
const ASKED_AS: [(&str, &str); 1] = [("docker.io", "registry-1.docker.io")];
const PATH_MAX: usize = 255;
const TAG_MAX: usize = 128;

/// An image that is to be found in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its repository, which names its registry.
    pub repository: String,
    /// Which of the repository's images.
    pub which: Which,
}

/// Which image of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// What a tag means now.
    Tag(String),
    /// The one whose manifest has this SHA-256, in lower-case hex.
    Digest(String),
}

/// Why an image was not fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfetched {
    /// There is no such image.
    NotFound(String),
    /// It is not taken: it, its registry or a place that this leads to is not as it must be.
    Refused(String),
    /// Nobody knows now: ask again.
    Away(String),
}

impl Wanted {
    /// Reads `registry.example/team/hello:1.2`. `None` for what names no registry, no tag, or a digest.
    pub fn tagged(text: &str) -> Option<Self> {
        let (repository, tag) = text.rsplit_once(':')?;
        let first = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let rest = |byte: u8| first(byte) || b".-".contains(&byte);
        let fine = tag.len() <= TAG_MAX && tag.bytes().next().is_some_and(first) && tag.bytes().all(rest);
        registry_of(repository).filter(|_| fine)?;
        Some(Self { repository: repository.to_owned(), which: Which::Tag(tag.to_owned()) })
    }

    /// What a registry is asked for.
    pub fn reference(&self) -> String {
        match &self.which {
            Which::Tag(tag) => tag.clone(),
            Which::Digest(sha256) => format!("sha256:{sha256}"),
        }
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.which {
            Which::Tag(tag) => write!(f, "{}:{tag}", self.repository),
            Which::Digest(sha256) => write!(f, "{}@sha256:{sha256}", self.repository),
        }
    }
}

/// The host that is asked for a repository, with its port, and the repository's name there. `None` for one of this machine's own, and for
/// what is no name.
pub fn registry_of(repository: &str) -> Option<(&str, &str)> {
    let (host, path) = repository.split_once('/')?;
    let (name, port) = host.split_once(':').unwrap_or((host, "443"));
    let named = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    let is_host = (name.contains('.') || host.contains(':') || name == "localhost")
        && name.bytes().all(named)
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && port.parse::<u16>().is_ok_and(|port| port > 0);
    if !is_host || path.len() > PATH_MAX || !path.split('/').all(is_part) {
        return None;
    }
    let asked = ASKED_AS.iter().find(|(known, _)| *known == host);
    Some((asked.map_or(host, |(_, asked)| asked), path))
}

/// A part of a repository's name: it climbs nowhere, and says nothing to a URL.
fn is_part(part: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [part.bytes().next(), part.bytes().last()];
    ends.into_iter().all(|end| end.is_some_and(word))
        && part.bytes().all(|byte| word(byte) || b"._-".contains(&byte))
        && !part.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_with_a_host_is_a_registrys() {
        for (repository, want) in [
            ("registry.example/hello", Some(("registry.example", "hello"))),
            ("registry.example:5000/team/hello-x", Some(("registry.example:5000", "team/hello-x"))),
            ("localhost:5000/a", Some(("localhost:5000", "a"))),
            ("localhost/a", Some(("localhost", "a"))),
            ("10.0.0.1/a", Some(("10.0.0.1", "a"))),
            ("docker.io/library/alpine", Some(("registry-1.docker.io", "library/alpine"))),
            ("hello", None),
            ("team/hello", None),
            ("", None),
            ("registry.example/", None),
            ("registry.example/a//b", None),
            ("registry.example/../v2", None),
            ("registry.example/a/..", None),
            ("registry.example/A", None),
            ("registry.example/a?b", None),
            ("registry.example/a%2e", None),
            ("registry.example:/a", None),
            ("registry.example:0/a", None),
            ("registry.example:99999/a", None),
            ("ada:pw@registry.example/a", None),
            (".example/a", None),
        ] {
            assert_eq!(registry_of(repository), want, "{repository}");
        }
    }

    #[test]
    fn a_tag_is_the_last_part_of_a_repository_with_a_registry() {
        for (text, want) in [
            ("registry.example/hello:1.2", Some(("registry.example/hello", "1.2"))),
            ("localhost:5000/hello:latest", Some(("localhost:5000/hello", "latest"))),
            ("localhost:5000/hello", None),
            ("registry.example/hello", None),
            ("registry.example/hello:", None),
            ("registry.example/hello:-x", None),
            ("registry.example/hello:a/b", None),
            ("registry.example/hello:1@sha256:00", None),
            ("hello:1.2", None),
        ] {
            let read = Wanted::tagged(text);
            let got = read.as_ref().map(|wanted| (wanted.repository.as_str(), wanted.reference()));
            assert_eq!(got, want.map(|(repository, tag)| (repository, tag.to_owned())), "{text}");
            assert!(read.is_none_or(|wanted| wanted.to_string() == text));
        }
    }
}
