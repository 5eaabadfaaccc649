//! A group of runs, with the spans that are to be sent of each.

use std::collections::HashMap;

use lantern_engine::event;
use lantern_store::Result;
use lantern_store::traces::{self, Due, Head};
use lantern_trace::{About, Span, Spans};
use lantern_types::RunId;

use crate::Deps;

/// The code of a run that was ended in its row because nobody could read it.
const UNREADABLE: &str = "run_unreadable";
/// Appends that are read at once.
const PAGE: u32 = 256;
/// Spans of one group, after which nothing more is read for it.
const SPANS_MAX: usize = 2_048;
/// Runs that go on, of which is remembered what was read.
const KNOWN_MAX: usize = 1_024;

/// Runs that are exported together.
pub(super) struct Group {
    pub(super) runs: Vec<Read>,
    /// Whether something of these runs is left for the next one.
    pub(super) more: bool,
}

/// A run as far as it was read.
pub(super) struct Read {
    pub(super) due: Due,
    pub(super) spans: Vec<Span>,
    /// The last event that was read.
    seq: i64,
    /// Whether nothing of it will follow.
    over: bool,
    /// What it has begun and not ended; nothing where nothing was read.
    fold: Option<Spans>,
}

impl Read {
    /// Up to which event it is exported then; `None` when all of it is.
    pub(super) const fn left_at(&self) -> Option<i64> {
        if self.over { None } else { Some(self.seq) }
    }
}

/// What was read of runs that go on, so that their journals are not read again from the beginning each time. What is
/// forgotten is read again.
#[derive(Default)]
pub(super) struct Known {
    runs: HashMap<RunId, (i64, Spans)>,
}

impl Known {
    fn take(&mut self, due: &Due) -> Option<(i64, Spans)> {
        self.runs.remove(&due.run).filter(|(seq, _)| *seq == due.seq)
    }

    pub(super) fn keep(&mut self, group: Group) {
        if self.runs.len() >= KNOWN_MAX {
            self.runs.clear();
        }
        let on = group.runs.into_iter().filter(|run| !run.over);
        self.runs.extend(on.filter_map(|run| Some((run.due.run, (run.seq, run.fold?)))));
    }

    pub(super) fn forget(&mut self) {
        self.runs.clear();
    }
}

/// Reads what is new in these runs.
pub(super) async fn read(deps: &Deps, known: &mut Known, taken: &[Due]) -> Result<Group> {
    let mut group = Group { runs: Vec::with_capacity(taken.len()), more: false };
    let mut room = SPANS_MAX;
    for due in taken {
        if let Some(read) = run(deps, known.take(due), *due, room).await? {
            room = room.saturating_sub(read.spans.len());
            group.more |= !read.over && room == 0;
            group.runs.push(read);
        }
    }
    Ok(group)
}

/// Reads on in one run, until that is enough for this group. `None` when it is gone.
async fn run(deps: &Deps, known: Option<(i64, Spans)>, due: Due, room: usize) -> Result<Option<Read>> {
    let (mut seq, mut fold) = known.map_or((0, None), |(seq, fold)| (seq, Some(fold)));
    let mut spans = Vec::new();
    let mut over = false;
    // What was exported before is read for what it began, and not sent again.
    while seq < due.seq || spans.len() < room {
        let Some(page) = traces::read(&deps.db, due.scope, due.run, seq, PAGE).await? else {
            return Ok(None);
        };
        let Head { agent_name, session, version, finished_at, error_code } = page.head;
        let of_run = fold.get_or_insert_with(|| {
            let (tenant, agent) = (due.scope.tenant(), agent_name.clone());
            Spans::of(About { tenant, run: due.run, agent, session })
        });
        let whole = page.appends.len() < PAGE as usize;
        for (last, bytes) in page.appends {
            let Ok(events) = event::decode(&bytes, None) else {
                let given_up = finished_at.filter(|_| error_code.as_deref() == Some(UNREADABLE));
                spans.extend(
                    given_up.map(|at| of_run.given_up(at, error_code.as_deref())).unwrap_or_default(),
                );
                let over = given_up.is_some();
                // A build that is newer may read on. Until it takes the run, or this one does again, it stays in hand.
                tracing::warn!(run = %due.run, seq, over, "the journal of the run cannot be read: its trace stops there");
                let said = over || seq > due.seq;
                return Ok(said.then_some(Read { due, spans, seq: seq.max(due.seq), over, fold: None }));
            };
            for event in &events {
                let ended = of_run.event(event);
                if i64::try_from(event.seq).is_ok_and(|seq| seq > due.seq) {
                    spans.extend(ended);
                }
            }
            seq = last;
        }
        if !of_run.sampled() {
            spans.clear();
            over = true;
            break;
        }
        if whole {
            if let Some(at) = finished_at.filter(|_| seq >= version) {
                // Without an event that says so, it was ended in its row; after one, nothing is left to end.
                spans.extend(of_run.given_up(at, error_code.as_deref()));
                over = true;
            }
            break;
        }
    }
    // Where this group had no room, nothing was read.
    let seq = if fold.is_some() { seq } else { due.seq };
    Ok(Some(Read { due, spans, seq, over, fold }))
}
