//! Where a run stands among traces: under which span its own is, and its steps' and its children's are.
//!
//! What is recorded is only what somebody named; everything else follows from the run's id.

use lantern_types::{RunId, SpanId, TraceId, TraceParent};

use crate::event::Parent;
use crate::run::{Run, Step};

impl Run {
    /// The run's own span, in the trace that somebody named or else in one of its own.
    pub fn span(&self) -> TraceParent {
        span_of(self.id, self.trace)
    }

    /// The span of the attempt of a step that is under way.
    pub fn span_of_attempt(&self, step: &Step) -> TraceParent {
        TraceParent { span: SpanId::of_attempt(self.id, step.id.as_str(), step.attempt), ..self.span() }
    }

    /// What a run that this one starts belongs under: the attempt of the step that waits for it, or else this run.
    pub fn span_above(&self, parent: &Parent) -> TraceParent {
        let step = parent.step.as_ref().filter(|_| parent.run == self.id).and_then(|step| self.step(step));
        step.map_or_else(|| self.span(), |step| self.span_of_attempt(step))
    }
}

/// The span of a run itself, which belongs under this one if somebody named it.
pub fn span_of(run: RunId, under: Option<TraceParent>) -> TraceParent {
    let (trace, sampled) =
        under.map_or_else(|| (TraceId::of_run(run), true), |under| (under.trace, under.sampled));
    TraceParent { trace, span: SpanId::of_run(run), sampled }
}
