//! Another program in a box that this node looks after.
//!
//! Invariant: the run is told who runs which program before it is run, so no program runs in a box unsaid. It goes on to its end or its
//! time, whoever waits for it; only so many run in one box at once.

use std::sync::Arc;

use lantern_policy::Scope;
use lantern_policy::workload::{Exec, Execd, Isolation, Limits, Unrun};
use lantern_sandbox::Shell;
use lantern_types::RunId;
use serde_json::json;
use tokio::sync::{Semaphore, oneshot};

use crate::Node;

/// Programs of one box at once, beside its own.
const AT_ONCE: usize = 4;
/// Under which name a run is told of one.
const EXEC: &str = "lantern:exec";

const UNHELD: &str = "a box by bubblewrap takes no other program: nothing of it would hold one";
const UNFILTERED: &str = "untrusted code takes no other program here: gVisor puts its filter of system calls on a box's own program alone";

/// A box, as the node knows it.
pub(crate) struct Held {
    pub(crate) limits: Limits,
    /// How it is asked; nothing before it is made.
    shell: Option<Shelled>,
}

/// Whether a box takes other programs, and how.
#[derive(Clone)]
struct Shelled {
    shell: Result<Arc<Shell>, &'static str>,
    running: Arc<Semaphore>,
}

impl Held {
    /// A box that is being made.
    pub(crate) const fn new(limits: Limits) -> Self {
        Self { limits, shell: None }
    }

    /// It is there.
    pub(crate) fn made(&mut self, shell: Option<Shell>, class: Isolation) {
        let shell = match shell {
            None => Err(UNHELD),
            // Of untrusted code nothing runs without the filter, whoever asks.
            Some(shell) if class == Isolation::Untrusted && !shell.is_filtered() => Err(UNFILTERED),
            Some(shell) => Ok(Arc::new(shell)),
        };
        self.shell = Some(Shelled { shell, running: Arc::new(Semaphore::new(AT_ONCE)) });
    }
}

impl Node {
    /// Runs another program in the box of a workload, to its end or its time.
    pub async fn exec(&self, scope: Scope, run: RunId, asked: Exec) -> Result<Execd, Unrun> {
        let Exec { argv, timeout, by } = asked;
        let shelled = self.with(|boxes| boxes.get(&run).and_then(|held| held.shell.clone()));
        let Shelled { shell, running } = shelled.ok_or(Unrun::NoBox)?;
        let shell = shell.map_err(|words| Unrun::Refused(words.to_owned()))?;
        let turn = running.try_acquire_owned().map_err(|_| Unrun::Busy)?;
        let key = self.setup.ids.uuid().to_string();
        let told = json!({ "action": "exec", "command": argv, "by": by });
        match self.setup.mail.tell((scope, run), (EXEC, &key), told).await {
            Ok(true) => {}
            Ok(false) => return Err(Unrun::Full),
            Err(error) => {
                tracing::warn!(%run, %error, "a run was not told of a program in its box, so it was not run");
                return Err(Unrun::Away);
            }
        }
        tracing::info!(tenant = %scope.tenant(), %run, "a program is run in a box");
        let (done, ran) = oneshot::channel();
        let work = async move {
            let _turn = turn;
            drop(done.send(shell.exec(argv, timeout).await));
        };
        self.setup.tasks.spawn("node.exec", Box::pin(work));
        match ran.await {
            Ok(Ok(ran)) => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let (stdout, stderr) = (text(&ran.stdout), text(&ran.stderr));
                Ok(Execd { code: ran.code, stdout, stderr, cut: ran.cut })
            }
            Ok(Err(lantern_sandbox::Error::Refused(_))) => Err(Unrun::NoBox),
            Ok(Err(error)) => {
                tracing::warn!(%run, %error, "a program could not be run in a box");
                Err(Unrun::Away)
            }
            Err(_) => Err(Unrun::Away),
        }
    }
}
