//! A machine with an image of the villain, and what comes of running it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};

use lantern_net::RealClock;
use lantern_policy::workload::{Backend, Capabilities, Mode, Placed, Usable, place, read_text};
use lantern_sandbox::image::{Layout, Plan, build};
use lantern_sandbox::{Ended, Given, Handed, Happened, Machine, Running, Setup, Stream, Wire};
use lantern_types::Secret;
use tokio::runtime::Runtime;

/// Every class that a test needs, also where the operator must allow it.
pub(crate) const MODE: Mode = Mode { dev: true, allow_oci_standard: true };
pub(crate) const BACKENDS: [Backend; 3] = Backend::ALL;

/// An empty folder of this name.
pub(crate) fn folder(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sandbox-{name}"));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// The villain's folder, built once.
pub(crate) fn villain() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let dir = folder(&format!("villain-{}", std::process::id()));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/villain.rs");
        let made = Command::new("rustc")
            .args(["--edition", "2024", "-C", "target-feature=+crt-static", "-C", "opt-level=1", "-o"])
            .arg(dir.join("villain"))
            .arg(source)
            .status();
        assert!(made.unwrap().success(), "the villain was built");
        dir
    })
}

/// A machine whose backends are all proved, and the digest of the villain's image on it.
pub(crate) struct Bench {
    pub(crate) machine: Machine,
    pub(crate) capabilities: Capabilities,
    pub(crate) image: String,
    pub(crate) data_dir: PathBuf,
}

pub(crate) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    // Boxes by bubblewrap end with the thread that made them, so tests make theirs on threads that stay.
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
});

pub(crate) fn machine(data_dir: &Path) -> Machine {
    Machine::new(Setup {
        data_dir: data_dir.to_owned(),
        mode: MODE,
        path: std::env::vars_os().find(|(name, _)| name == "PATH").unwrap().1,
        clock: Arc::new(RealClock::new()),
    })
}

pub(crate) fn bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| {
        let alone = std::env::vars().any(|(name, _)| name == "LANTERN_ALONE");
        let data_dir = folder(if alone { "alone" } else { "bench" });
        let machine = machine(&data_dir);
        let plan =
            Plan { name: "villain".to_owned(), entrypoint: vec!["/villain".to_owned()], ..Plan::default() };
        let built = build(machine.images().layout(), villain(), &plan).unwrap();
        let capabilities = RUNTIME.block_on(machine.probe());
        for backend in BACKENDS {
            let usable = &capabilities.backends[&backend];
            let words = "this test needs root, crun or runc, runsc and bwrap: `.ci/install test`";
            assert!(matches!(usable, Usable::Proved { .. }), "{words}: {backend:?} {usable:?}");
        }
        Bench { image: built.image.to_string(), machine, capabilities, data_dir }
    })
}

impl Bench {
    /// The villain with these arguments in such a box, with more lines of its spec.
    pub(crate) fn placed(&self, backend: Backend, args: &[&str], more: &str) -> Placed {
        let class = match backend {
            Backend::Gvisor => "untrusted",
            Backend::Oci | Backend::Process => "trusted",
        };
        let args = serde_json::to_string(args).unwrap();
        let text = format!("image_digest: {}\nisolation: {class}\nargs: {args}\n{more}", self.image);
        let mut only = self.capabilities.clone();
        only.backends.retain(|known, _| *known == backend);
        place(read_text(&text).unwrap(), &only, MODE).unwrap()
    }

    /// The same in a network of its own, where somebody accepts and says nothing.
    pub(crate) fn run_wired(&self, backend: Backend, args: &[&str]) -> Outcome {
        let (wire, listener) = RUNTIME.block_on(Wire::lay()).unwrap();
        let more = "network: allowlist\nlimits: {timeout: 20s}\n";
        let placed = self.placed(backend, args, more);
        let ran = Outcome::of(self.started(&placed, Given { wire: Some(wire), ..Given::default() }));
        drop(listener);
        ran
    }

    pub(crate) fn start(&self, backend: Backend, args: &[&str], more: &str, input: &str) -> Running {
        let placed = self.placed(backend, args, more);
        self.started(&placed, Given { input: input.as_bytes(), ..Given::default() })
    }

    /// The same with secrets, whose values are given in the spec's order.
    pub(crate) fn start_with(&self, backend: Backend, args: &[&str], more: &str, values: &[&str]) -> Running {
        let placed = self.placed(backend, args, more);
        let secrets = placed.spec().secrets.iter().zip(values).map(|(secret, value)| Handed {
            name: secret.env_name.clone(),
            value: Secret::new((*value).to_owned()),
            deliver: secret.deliver,
        });
        let secrets = secrets.collect();
        self.started(&placed, Given { secrets, ..Given::default() })
    }

    fn started(&self, placed: &Placed, given: Given<'_>) -> Running {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let id = format!("vm-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let facts = [("LANTERN_VM_ID", id.clone())];
        RUNTIME
            .block_on(async { self.machine.start(placed, &id, Given { facts: &facts, ..given }).await })
            .unwrap()
    }

    pub(crate) fn run(&self, backend: Backend, args: &[&str], more: &str) -> Outcome {
        Outcome::of(self.start(backend, args, more, ""))
    }
}

/// What a box wrote, and how it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) ended: Ended,
}

impl Outcome {
    pub(crate) fn of(mut running: Running) -> Self {
        let (mut out, mut err) = (String::new(), String::new());
        let ended = loop {
            match RUNTIME.block_on(running.next()) {
                Happened::Line(Stream::Stdout, line) => out.extend([&line, "\n"]),
                Happened::Line(Stream::Stderr, line) => err.extend([&line, "\n"]),
                Happened::Ended(ended) => break ended,
            }
        };
        Self { out, err, ended }
    }
}

/// A layout in a folder of its own.
pub(crate) fn layout(name: &str) -> Layout {
    Layout::at(folder(name))
}
