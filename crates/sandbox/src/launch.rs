//! What is to be run, the same for every backend: made of a placed workload, its image and the few facts that are ours.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lantern_policy::workload::{Limits, Placed};

use crate::error::{Error, Result};
use crate::handed::{self, Handed, SECRETS_DIR};
use crate::image::{Config, Ready};
use crate::wire::Wire;

/// The user and group inside of every box. Nobody on the host has this number.
pub(crate) const BOX_ID: u32 = 61_000;
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Bytes of input that are also in the environment, where one variable may not be long.
const INPUT_IN_ENV_MAX: usize = 32 * 1_024;

/// What a box is given beside what its spec says.
#[derive(Default)]
pub struct Given<'a> {
    /// Variables of ours that the program sees.
    pub facts: &'a [(&'a str, String)],
    /// What it reads.
    pub input: &'a [u8],
    /// Its network: a spec that lists where to must have one, and no other may.
    pub wire: Option<Wire>,
    /// The secrets that its spec lists, in that order.
    pub secrets: Vec<Handed>,
}

/// What is run in a box.
#[derive(Clone, Debug)]
pub struct Inside {
    /// The box's name, which is a name for files, cgroups and runtimes too.
    pub id: String,
    /// The files it sees, which it cannot change.
    pub rootfs: PathBuf,
    /// Folders of the host that it sees beside them, which it cannot change. Only probes have any.
    pub shown: Vec<(String, String)>,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// Where it starts.
    pub cwd: String,
    /// How much it may use.
    pub limits: Limits,
    /// The network that it has in place of none of its own, as a path.
    pub wire: Option<PathBuf>,
    /// Secrets that it is handed.
    pub secrets: Vec<Handed>,
    /// What it sees as `/run`, once its secrets lie there.
    pub run: Option<PathBuf>,
}

/// Puts together what a workload runs.
pub(crate) fn inside(placed: &Placed, ready: &Ready, id: &str, given: &mut Given<'_>) -> Result<Inside> {
    let spec = placed.spec();
    let argv = argv(&spec.command, &spec.args, &ready.config);
    if argv.is_empty() {
        return Err(Error::Refused("the image says nothing that could be run; say it in command".to_owned()));
    }
    let secrets = std::mem::take(&mut given.secrets);
    let env = environment(&ready.config, &spec.env, given, &secrets);
    let cwd = if ready.config.working_dir.starts_with('/') {
        ready.config.working_dir.clone()
    } else {
        "/".to_owned()
    };
    Ok(Inside {
        id: id.to_owned(),
        rootfs: ready.rootfs.clone(),
        shown: Vec::new(),
        argv,
        env,
        cwd,
        limits: spec.limits,
        wire: given.wire.as_ref().map(Wire::path),
        secrets,
        run: None,
    })
}

/// The plain variables of a box: none has the name of one that a secret is handed over in, whoever set it.
fn environment(
    image: &Config,
    own: &BTreeMap<String, String>,
    given: &Given<'_>,
    secrets: &[Handed],
) -> BTreeMap<String, String> {
    let (facts, input) = (given.facts, given.input);
    let mut env =
        BTreeMap::from([("PATH".to_owned(), PATH.to_owned()), ("HOME".to_owned(), "/tmp".to_owned())]);
    env.extend(image.env.iter().filter_map(|pair| pair.split_once('=')).map(owned));
    env.extend(own.clone());
    // Ours last: nobody else's word counts for them.
    env.retain(|name, _| !name.starts_with("LANTERN_"));
    env.extend(facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    if input.len() <= INPUT_IN_ENV_MAX
        && let Ok(text) = std::str::from_utf8(input)
    {
        env.insert("LANTERN_INPUT".to_owned(), text.to_owned());
    }
    if !secrets.is_empty() {
        env.insert("LANTERN_SECRETS_DIR".to_owned(), SECRETS_DIR.to_owned());
    }
    for (name, _) in handed::variables(secrets) {
        env.remove(name);
    }
    env
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// A command takes the place of the image's entry point and its arguments; arguments alone take that of the latter.
fn argv(command: &[String], args: &[String], image: &Config) -> Vec<String> {
    let first = if command.is_empty() { &image.entrypoint } else { command };
    let rest = if command.is_empty() && args.is_empty() { &image.cmd } else { args };
    first.iter().chain(rest).cloned().collect()
}

#[cfg(test)]
mod tests {
    use lantern_policy::workload::Deliver;
    use lantern_types::Secret;

    use super::*;

    #[test]
    fn a_secret_is_the_only_variable_of_its_name() {
        let secret = |name: &str, deliver| Handed {
            name: name.to_owned(),
            value: Secret::new("told".to_owned()),
            deliver,
        };
        let texts = |words: &str| words.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let image = Config { env: texts("KEY=image FILE=image KEPT=image"), ..Config::default() };
        let own = BTreeMap::from([("OWN".to_owned(), "spec".to_owned())]);
        let given = Given { facts: &[("FACT", "ours".to_owned())], ..Given::default() };
        let names = ["KEY", "HOME", "OWN", "FACT"].map(|name| secret(name, Deliver::Env));
        let secrets = [&names[..], &[secret("FILE", Deliver::File)]].concat();
        let env = environment(&image, &own, &given, &secrets);
        let plain: Vec<(&str, &str)> =
            env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let want = [
            ("FILE", "image"),
            ("KEPT", "image"),
            ("LANTERN_INPUT", ""),
            ("LANTERN_SECRETS_DIR", SECRETS_DIR),
            ("PATH", PATH),
        ];
        assert_eq!(plain, want);
    }

    #[test]
    fn a_command_takes_the_place_of_what_the_image_says() {
        let texts = |words: &str| words.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let image = Config { entrypoint: texts("/entry"), cmd: texts("a b"), ..Config::default() };
        for (command, args, want) in [
            ("", "", "/entry a b"),
            ("", "c", "/entry c"),
            ("/other", "", "/other"),
            ("/other x", "c", "/other x c"),
        ] {
            assert_eq!(argv(&texts(command), &texts(args), &image), texts(want), "{command} {args}");
        }
    }
}
