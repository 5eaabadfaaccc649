//! This machine: what it can do, and boxes made on it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, io};

use lantern_policy::workload::{Backend, Capabilities, Limits, Mode, Placed, Usable};
use lantern_types::Dur;
use lantern_types::edge::Clock;

use crate::cgroup::{self, Groups};
use crate::error::{Error, Result};
use crate::gate;
use crate::handed;
use crate::image::Images;
use crate::launch::{self, Given, Inside};
use crate::oci::{self, Flavour, Runtime, found};
use crate::probe::{self, Findings};
use crate::process::{self, Files};
use crate::running::{self, Happened, Hold, Parts, Running};
use crate::seccomp;

/// What a machine is made of.
#[derive(Clone)]
pub struct Setup {
    /// Where images and boxes are kept.
    pub data_dir: PathBuf,
    /// How the server runs.
    pub mode: Mode,
    /// Where programs are looked for: `PATH`.
    pub path: OsString,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// This machine.
pub struct Machine {
    setup: Setup,
    images: Images,
    boxes: PathBuf,
    // Sections under this lock are one look-up or insert.
    proved: Mutex<Proved>,
}

/// What probes proved, with what it takes to make such a box.
#[derive(Clone, Debug, Default)]
struct Proved {
    oci: Option<Runtime>,
    gvisor: Option<Runtime>,
    bwrap: Option<PathBuf>,
}

/// With what a box is made.
#[derive(Clone, Debug)]
enum Maker {
    Runtime(Runtime),
    Bubblewrap(PathBuf),
}

/// Runtimes keep what they know of their boxes here, beside the boxes.
const STATE: &str = ".state";
static PROBES: AtomicU32 = AtomicU32::new(1);
const PROBE_MAX: Dur = Dur::from_secs(15);
/// Folders of the host whose programs a probe runs.
const PROGRAMS: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

impl Machine {
    /// This machine, of which nothing is proved yet.
    pub fn new(setup: Setup) -> Self {
        let (images, boxes) = (Images::below(&setup.data_dir), setup.data_dir.join("boxes"));
        Self { setup, images, boxes, proved: Mutex::default() }
    }

    /// The images here.
    pub const fn images(&self) -> &Images {
        &self.images
    }

    /// Takes down what a process that died left behind. Only for the one process that owns the data folder.
    pub async fn sweep(&self) -> Result<()> {
        self.images.sweep().map_err(Error::io("sweep", self.images.layout().dir()))?;
        let entries = match fs::read_dir(&self.boxes) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(Error::io("list", &self.boxes))?,
        };
        let groups = Groups::find(Path::new(cgroup::ROOT));
        for entry in entries {
            let entry = entry.map_err(Error::io("list", &self.boxes))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == STATE {
                continue;
            }
            tracing::info!(workload = name, "taking down a box that an earlier process left");
            let own = |runtime: Runtime| Runtime { state: entry.path().join(STATE), ..runtime };
            let runtimes = self.runtimes().into_iter().flat_map(|runtime| [runtime.clone(), own(runtime)]);
            for runtime in runtimes.filter(|runtime| runtime.state.exists()) {
                let _ = running::quiet(&*self.setup.clock, &self.setup.path, runtime.delete(&name)).await;
            }
            if let Ok(groups) = &groups {
                running::clear(&*self.setup.clock, &groups.of(&name)).await;
            }
            handed::remove(&entry.path()).map_err(Error::io("remove", &entry.path()))?;
        }
        Ok(())
    }

    fn runtimes(&self) -> Vec<Runtime> {
        let flavours = Flavour::shared().into_iter().chain([Flavour::Runsc]);
        flavours.filter_map(|flavour| self.runtime(flavour)).collect()
    }

    fn runtime(&self, flavour: Flavour) -> Option<Runtime> {
        let program = found(flavour.program(), &self.setup.path)?;
        Some(Runtime {
            flavour,
            program,
            state: self.boxes.join(STATE).join(flavour.program()),
            wired: false,
        })
    }

    /// Finds out what this machine can do, by making a box with each backend and looking at it from inside.
    pub async fn probe(&self) -> Capabilities {
        if !rustix::process::geteuid().is_root() {
            return Capabilities::none("boxes are made by root alone so far; run the server as root");
        }
        let (oci, gvisor, process) =
            tokio::join!(self.probe_oci(), self.probe_gvisor(), self.probe_process());
        let backends = [(Backend::Oci, oci), (Backend::Gvisor, gvisor), (Backend::Process, process)];
        Capabilities { backends: backends.into() }
    }

    async fn probe_oci(&self) -> Usable {
        let mut reasons = Vec::new();
        for flavour in Flavour::shared() {
            let name = flavour.program();
            let Some(runtime) = self.runtime(flavour) else {
                reasons.push(format!("{name} is not installed"));
                continue;
            };
            match self.proves(Backend::Oci, Maker::Runtime(runtime.clone())).await {
                Ok(seen) => {
                    let words = self.version(&runtime.program, "--version").await;
                    self.with(|proved| proved.oci = Some(runtime));
                    return Usable::Proved { runtime: words, seen };
                }
                Err(why) => reasons.push(format!("{name}: {why}")),
            }
        }
        Usable::No(reasons.join("; "))
    }

    async fn probe_gvisor(&self) -> Usable {
        let Some(runtime) = self.runtime(Flavour::Runsc) else {
            return Usable::No("runsc is not installed".to_owned());
        };
        match self.proves(Backend::Gvisor, Maker::Runtime(runtime.clone())).await {
            Ok(seen) => {
                let words = self.version(&runtime.program, "--version").await;
                self.with(|proved| proved.gvisor = Some(runtime));
                Usable::Proved { runtime: words, seen }
            }
            Err(why) => Usable::No(why),
        }
    }

    async fn probe_process(&self) -> Usable {
        let Some(bwrap) = found("bwrap", &self.setup.path) else {
            return Usable::No("bwrap is not installed".to_owned());
        };
        match self.proves(Backend::Process, Maker::Bubblewrap(bwrap.clone())).await {
            Ok(seen) => {
                let words = self.version(&bwrap, "--version").await;
                self.with(|proved| proved.bwrap = Some(bwrap));
                Usable::Proved { runtime: words, seen }
            }
            Err(why) => Usable::No(why),
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Proved) -> T) -> T {
        change(&mut self.proved.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The first line of what a program says of its version.
    async fn version(&self, program: &Path, flag: &str) -> String {
        let line = vec![program.into(), flag.into()];
        let output = running::quiet(&*self.setup.clock, &self.setup.path, line).await;
        let text =
            output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        text.lines().next().unwrap_or_default().replace(" version ", " ")
    }

    /// Makes a box with the host's own programs in it, and judges what it sees.
    async fn proves(&self, backend: Backend, maker: Maker) -> std::result::Result<String, String> {
        let name = match &maker {
            Maker::Runtime(runtime) => runtime.flavour.program(),
            Maker::Bubblewrap(_) => "bwrap",
        };
        // Control groups have one name for all servers of a machine.
        let id = format!("probe-{name}-{}-{}", std::process::id(), PROBES.fetch_add(1, Ordering::Relaxed));
        let inside = self.probing(&id).map_err(|error| error.to_string())?;
        let mut running = self.make(inside, maker, Given::default()).map_err(|error| error.to_string())?;
        let (mut seen, mut complaint) = (String::new(), String::new());
        let ended = loop {
            match running.next().await {
                Happened::Line(running::Stream::Stdout, line) => seen.extend([&line, "\n"]),
                Happened::Line(running::Stream::Stderr, line) => complaint = line,
                Happened::Ended(ended) => break ended,
            }
        };
        let host = fs::read_to_string("/proc/version").unwrap_or_default();
        Findings::read(&seen).judge(backend, &host).map_err(|why| match ended.why {
            running::Why::Exited if complaint.is_empty() => why,
            running::Why::TimedOut => "the probe took too long".to_owned(),
            _ => format!("{why}: {complaint}"),
        })
    }

    fn probing(&self, id: &str) -> Result<Inside> {
        let rootfs = self.boxes.join(id).join("rootfs");
        for name in ["usr", "proc", "dev", "tmp"] {
            let dir = rootfs.join(name);
            fs::create_dir_all(&dir).map_err(Error::io("make", &dir))?;
        }
        let mut shown = vec![("/usr".to_owned(), "/usr".to_owned())];
        for name in PROGRAMS {
            let (host, here) = (Path::new("/").join(name), rootfs.join(name));
            if let Ok(target) = fs::read_link(&host) {
                let _ = fs::remove_file(&here);
                std::os::unix::fs::symlink(target, &here).map_err(Error::io("link", &here))?;
            } else if host.is_dir() {
                fs::create_dir_all(&here).map_err(Error::io("make", &here))?;
                shown.push((host.display().to_string(), host.display().to_string()));
            }
        }
        let limits = Limits { timeout: PROBE_MAX, memory_bytes: 256 << 20, ..Limits::default() };
        Ok(Inside {
            id: id.to_owned(),
            rootfs,
            shown,
            argv: ["/bin/sh", "-c", probe::SCRIPT].map(str::to_owned).into(),
            env: [("PATH".to_owned(), "/usr/bin:/bin:/usr/sbin:/sbin".to_owned())].into(),
            cwd: "/".to_owned(),
            limits,
            wire: None,
            secrets: Vec::new(),
            run: None,
        })
    }

    /// Starts a workload in its box, with what it is given.
    pub async fn start(&self, placed: &Placed, id: &str, mut given: Given<'_>) -> Result<Running> {
        gate::check(placed, self.setup.mode, &given)?;
        let maker = self.maker(placed.backend())?;
        let (images, image) = (self.images.clone(), placed.spec().image.clone());
        let ready = tokio::task::spawn_blocking(move || images.ready(&image)).await;
        let ready = ready.map_err(|error| Error::NotMade(error.to_string()))??;
        let inside = launch::inside(placed, &ready, id, &mut given)?;
        self.make(inside, maker, given)
    }

    /// What this machine itself proved, whatever whoever placed the workload believes.
    fn maker(&self, backend: Backend) -> Result<Maker> {
        let maker = self.with(|proved| match backend {
            Backend::Oci => proved.oci.clone().map(Maker::Runtime),
            Backend::Gvisor => proved.gvisor.clone().map(Maker::Runtime),
            Backend::Process => proved.bwrap.clone().map(Maker::Bubblewrap),
        });
        maker.ok_or_else(|| Error::Refused(format!("{} is not proved on this machine", backend.as_str())))
    }

    /// Must be called on a thread that lives as long as the runtime: a box by bubblewrap ends with the thread that made it.
    fn make(&self, mut inside: Inside, maker: Maker, given: Given<'_>) -> Result<Running> {
        let dir = self.boxes.join(&inside.id);
        let made = self.made(&mut inside, maker, (&dir, given));
        if made.is_err() {
            // The reason why it failed matters, not that its rest could not be removed.
            let _ = handed::remove(&dir);
            if let Ok(groups) = Groups::find(Path::new(cgroup::ROOT)) {
                groups.of(&inside.id).remove();
            }
        }
        made
    }

    fn made(&self, inside: &mut Inside, maker: Maker, (dir, given): (&Path, Given<'_>)) -> Result<Running> {
        fs::create_dir_all(dir).map_err(Error::io("make", dir))?;
        let handed = !inside.secrets.is_empty();
        if handed {
            inside.run = Some(handed::lay(dir, &inside.secrets)?);
        }
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.join(name);
            fs::write(&path, bytes).map_err(Error::io("write", &path)).map(|()| path)
        };
        let groups = Groups::find(Path::new(cgroup::ROOT)).map_err(Error::Refused)?;
        let (line, hold) = match maker {
            Maker::Runtime(runtime) => {
                // A runtime's own notes have the environment in them.
                let state = if handed { dir.join(STATE) } else { runtime.state.clone() };
                let runtime = Runtime { wired: inside.wire.is_some(), state, ..runtime };
                let config = oci::config::config(inside, runtime.facts(groups.counts_swap()));
                write("config.json", config.to_string().as_bytes())?;
                let pid_file = dir.join("pid");
                let line = runtime.run(dir, &pid_file, &inside.id);
                (line, Hold::Oci { runtime, pid_file })
            }
            Maker::Bubblewrap(bwrap) => {
                let program = seccomp::bpf().ok_or_else(|| Error::NotMade("no filter".to_owned()))?;
                let (filter, status) = (write("filter", &program)?, write("status", &[])?);
                let variables = write("variables", &process::variables(inside))?;
                let files = Files { status: &status, filter: &filter, variables: &variables };
                let group = groups
                    .make(&inside.id, &inside.limits, process::OWN_PIDS)
                    .map_err(Error::io("make control groups below", Path::new(cgroup::ROOT)))?;
                let line = process::args(inside, &bwrap, files, &group.dirs);
                (line, Hold::Process { status })
            }
        };
        let stdin = write("input", given.input)?;
        let stdin = fs::File::open(&stdin).map_err(Error::io("open", &stdin))?;
        let mut command = running::command(&self.setup.path, &line);
        command.stdin(Stdio::from(stdin)).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command
            .spawn()
            .map_err(|source| Error::Io { what: "cannot start a runtime".to_owned(), source })?;
        Ok(Running::new(
            child,
            Parts {
                id: inside.id.clone(),
                hold,
                dir: dir.to_owned(),
                groups,
                clock: self.setup.clock.clone(),
                path: self.setup.path.clone(),
                timeout: inside.limits.timeout,
                wire: given.wire,
            },
        ))
    }
}
