//! Which model providers the operator brings: from the environment, and in `dev` a local server that answers.

use std::collections::BTreeMap;

use anyhow::Result;
use lantern_llm::vendor::{VENDORS, vendor};
use lantern_llm::{Endpoint, OfflinePace, list_models};
use lantern_net::{Client, Reach};
use lantern_policy::Catalogue;
use lantern_policy::route::{Choices, OFFLINE, route, unnamed};
use lantern_policy::strategy::Strategy;
use lantern_types::{Dur, Route, Secret};
use lantern_worker::providers::{Rules, Shared};

use super::advice::Advice;
use crate::env;

type Named = (&'static str, &'static str, &'static str);

/// The providers that the environment may name, each with the variables of its key and its base URL.
const NAMED: &[Named] = &[
    ("openai", env::OPENAI_API_KEY, env::OPENAI_BASE_URL),
    ("anthropic", env::ANTHROPIC_API_KEY, env::ANTHROPIC_BASE_URL),
    ("gemini", env::GEMINI_API_KEY, env::GEMINI_BASE_URL),
];
/// What a local model server is called.
pub(super) const LOCAL: &str = "ollama";
/// The port that it usually listens on.
const LOCAL_PORT: u16 = 11_434;
/// How long a local model server may take to answer at start: one that may be there, and one that somebody has named.
const LOCAL_WAIT: Dur = Dur::from_millis(80);
const NAMED_WAIT: Dur = Dur::from_secs(2);
/// A readable pace, so that a newcomer sees a run happen.
const DEV_PACE: u32 = 40;

/// The rules of a `serve` process: the environment's providers, and no stand-in. Fails when a variable says what cannot be.
pub(crate) fn serve(private: bool) -> Result<Rules> {
    Ok(Rules {
        shared: NAMED
            .iter()
            .filter_map(|named| from_environment(*named).transpose())
            .collect::<Result<_>>()?,
        vendor_urls: vendor_urls(),
        private,
        offline_stands_in: false,
        pace: pace(env::get(env::OFFLINE_TOKENS_PER_SEC).as_deref())?,
        strategy: strategy(env::get(env::ROUTE_STRATEGY).as_deref())?,
    })
}

/// The rules of a `dev` process: the same, else a local server that answers, else the offline model.
pub(crate) async fn dev(client: &Client) -> Result<Rules> {
    let mut rules = serve(true)?;
    if rules.shared.is_empty() {
        rules.shared.extend(local(client).await);
    }
    rules.offline_stands_in = true;
    Ok(rules)
}

/// Which model answers who names none: `ollama/llama3:8b`, `offline`, or `None` when nothing does.
pub(crate) fn answering(choices: &Choices, catalogue: &Catalogue) -> Option<String> {
    let route = route("auto", choices, catalogue).ok().filter(|route| !unnamed(route, catalogue))?;
    let Route { provider, model, .. } = route;
    Some(if provider == OFFLINE { provider } else { format!("{provider}/{model}") })
}

/// The same for people.
pub(crate) fn shown(model: Option<&str>) -> String {
    match model {
        Some(OFFLINE) => format!("{OFFLINE} (built in)"),
        Some(model) => model.to_owned(),
        None => "none yet".to_owned(),
    }
}

/// The vendors' own base URLs, by provider name. One that answers on this machine is nobody's vendor.
fn vendor_urls() -> BTreeMap<String, String> {
    let own = |url: &&str| url.starts_with("https://");
    let urls = VENDORS.iter().filter_map(|vendor| Some((vendor.name, vendor.base_url.filter(own)?)));
    urls.map(|(name, url)| (name.to_owned(), url.to_owned())).collect()
}

fn from_environment((name, key, base_url): Named) -> Result<Option<Shared>> {
    let Some(vendor_url) = vendor(name).and_then(|vendor| vendor.base_url) else { return Ok(None) };
    let api_key = env::get(key).map(Secret::new);
    let own = env::get(base_url);
    if api_key.is_none() && own.is_none() {
        return Ok(None);
    }
    if let Some(own) = &own {
        usable(base_url, own)?;
    }
    let vendor = own.as_deref().is_none_or(|url| url.trim_end_matches('/') == vendor_url);
    if !vendor {
        tracing::warn!(
            "models that the catalogue has no price for count as free at {base_url}: if somebody charges for them, no \
             budget of a run bounds what they cost"
        );
    }
    Ok(Some(Shared {
        name: name.to_owned(),
        base_url: own.unwrap_or_else(|| vendor_url.to_owned()),
        api_key,
        vendor,
        models: Vec::new(),
    }))
}

/// Refuses a base URL that nobody could be asked at, by the rule of those that tenants set.
fn usable(variable: &'static str, url: &str) -> Result<()> {
    let Some(problem) = lantern_control::base_url_problem(url) else { return Ok(()) };
    // It may hold a key.
    let what = format!("{variable} makes no base URL: {problem}");
    Err(Advice::config(what, "write a URL such as https://models.example.com/v1").into())
}

async fn local(client: &Client) -> Option<Shared> {
    let said = env::get(env::OLLAMA_HOST);
    let url = local_url(said.as_deref().unwrap_or_default());
    let endpoint =
        Endpoint { provider: LOCAL.to_owned(), base_url: url.clone(), api_key: None, reach: Reach::Private };
    let wait = if said.is_some() { NAMED_WAIT } else { LOCAL_WAIT };
    let models = list_models(client, &endpoint, wait).await.unwrap_or_default();
    if models.is_empty() {
        if said.is_some() {
            tracing::warn!(
                "{} is set, and no model server that has a model answers at {url}",
                env::OLLAMA_HOST
            );
        }
        return None;
    }
    tracing::info!(provider = LOCAL, models = models.len(), "a local model server answers and will be used");
    Some(Shared { name: LOCAL.to_owned(), base_url: url, api_key: None, vendor: false, models })
}

/// The base URL of the server that `HOST[:PORT]` or a URL names; what is left out is what is usual. The address that
/// stands for all of a machine's is where a server listens, so from here it is this machine.
fn local_url(said: &str) -> String {
    let (scheme, rest, usual) = match said.trim().split_once("://") {
        Some((scheme, rest)) => (scheme, rest, None),
        None => ("http", said.trim(), Some(LOCAL_PORT)),
    };
    let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() && (host.ends_with(']') || !host.contains(':')) => {
            (host, port.parse().ok())
        }
        _ => (place.trim_end_matches(':'), usual),
    };
    let host = match host.trim_matches(['[', ']']) {
        "" | "0.0.0.0" => "127.0.0.1".to_owned(),
        "::" => "[::1]".to_owned(),
        bare if bare.contains(':') => format!("[{bare}]"),
        name => name.to_owned(),
    };
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    let path = Some(path.trim_matches('/')).filter(|path| !path.is_empty()).map(|path| format!("/{path}"));
    format!("{scheme}://{host}{port}{}/v1", path.unwrap_or_default())
}

/// What counts when several models would do, where nobody says.
fn strategy(said: Option<&str>) -> Result<Strategy> {
    let Some(said) = said else { return Ok(Strategy::default()) };
    said.parse().map_err(|error| {
        let what = format!("{} is {said:?}: {error}", env::ROUTE_STRATEGY);
        Advice::config(what, "write balanced, cheap, best or fast").into()
    })
}

/// How fast the offline model writes; 0 is as fast as it can.
fn pace(said: Option<&str>) -> Result<OfflinePace> {
    let rate = said.map_or(Ok(DEV_PACE), str::parse).map_err(|_| {
        let what = format!("{} is {:?}", env::OFFLINE_TOKENS_PER_SEC, said.unwrap_or_default());
        Advice::config(what, "write a whole number of tokens a second; 0 is as fast as it can")
    })?;
    Ok(OfflinePace { tokens_per_sec: Some(rate).filter(|rate| *rate > 0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_in_a_variable_is_refused_and_not_guessed_at() {
        let paced = |said| pace(said).ok().map(|pace| pace.tokens_per_sec);
        for (said, want) in [
            (None, Some(Some(DEV_PACE))),
            (Some("0"), Some(None)),
            (Some("7"), Some(Some(7))),
            (Some("abc"), None),
            (Some("-1"), None),
            (Some("1.5"), None),
            (Some("99999999999"), None),
        ] {
            assert_eq!(paced(said), want, "{said:?}");
        }
        assert_eq!(strategy(Some("cheap")).ok(), Some(Strategy::Cheap));
        assert_eq!(strategy(None).ok(), Some(Strategy::default()));
        assert!(strategy(Some("fastest")).is_err());
        for url in ["zz", "ftp://x", "http://[::1", "http://", "https://key@x/v1", "https://x/v1?a=b"] {
            let refused = usable(env::OPENAI_BASE_URL, url).unwrap_err().to_string();
            assert!(refused.contains("OPENAI_BASE_URL") && !refused.contains("key@"), "{url}: {refused}");
        }
        assert!(usable(env::OPENAI_BASE_URL, "http://127.0.0.1:9/v1/").is_ok());
    }

    #[test]
    fn a_local_server_is_where_its_variable_says() {
        for (said, want) in [
            ("", "http://127.0.0.1:11434/v1"),
            ("0.0.0.0", "http://127.0.0.1:11434/v1"),
            ("0.0.0.0:1234", "http://127.0.0.1:1234/v1"),
            (":1234", "http://127.0.0.1:1234/v1"),
            (" gpu.lan ", "http://gpu.lan:11434/v1"),
            ("gpu.lan:80", "http://gpu.lan:80/v1"),
            ("http://gpu.lan", "http://gpu.lan/v1"),
            ("https://gpu.lan:8443/models/", "https://gpu.lan:8443/models/v1"),
            ("[::]:1234", "http://[::1]:1234/v1"),
            ("::1", "http://[::1]:11434/v1"),
            ("[fd00::2]", "http://[fd00::2]:11434/v1"),
        ] {
            assert_eq!(local_url(said), want, "{said}");
        }
    }

    #[test]
    fn the_model_that_answers_is_named() {
        let server = |name: &str, vendor: bool, models: &[&str]| Shared {
            name: name.to_owned(),
            base_url: "http://127.0.0.1:1/v1".to_owned(),
            api_key: None,
            vendor,
            models: models.iter().map(|model| (*model).to_owned()).collect(),
        };
        for (shared, offline_stands_in, want) in [
            (None, true, "offline (built in)"),
            (None, false, "none yet"),
            (Some(server("ollama", false, &["nomic-embed-text", "llama3:8b"])), true, "ollama/llama3:8b"),
            (Some(server("ollama", false, &[])), true, "none yet"),
            (Some(server("openai", true, &[])), false, "openai/"),
        ] {
            let rules =
                Rules { shared: shared.into_iter().collect(), offline_stands_in, ..serve(false).unwrap() };
            let model = answering(&rules.choices(), &Catalogue::builtin().unwrap());
            let said = shown(model.as_deref());
            assert!(said.starts_with(want), "{said}, not {want}");
        }
    }
}
