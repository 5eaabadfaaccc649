//! The effects of one run that are outside right now.
//!
//! Invariant: dropping the future of an effect stops it; one that was stopped gives no result.

use std::collections::HashMap;

use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::future::{AbortHandle, Abortable};
use futures_util::stream::FuturesUnordered;
use lantern_engine::StepId;
use lantern_types::edge::BoxFuture;

use crate::perform::Performed;

/// Effects that are outside right now.
#[derive(Default)]
pub(super) struct Outside {
    futures: FuturesUnordered<Abortable<BoxFuture<'static, Performed>>>,
    handles: HashMap<StepId, AbortHandle>,
}

impl Outside {
    pub(super) fn start(&mut self, step: StepId, work: BoxFuture<'static, Performed>) {
        let (handle, registration) = AbortHandle::new_pair();
        if let Some(earlier) = self.handles.insert(step, handle) {
            earlier.abort();
        }
        self.futures.push(Abortable::new(work, registration));
    }

    pub(super) fn stop(&mut self, step: &StepId) {
        if let Some(handle) = self.handles.remove(step) {
            handle.abort();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.handles.is_empty()
    }

    /// The next result and every other that is ready by then; never completes when nothing is outside.
    pub(super) async fn results(&mut self) -> Vec<Performed> {
        let mut results = Vec::new();
        while results.is_empty() {
            match self.futures.next().await {
                Some(Ok(result)) => results.push(result),
                Some(Err(_aborted)) => {}
                None => std::future::pending().await,
            }
        }
        while let Some(Some(next)) = self.futures.next().now_or_never() {
            results.extend(next.ok());
        }
        for (step, ..) in &results {
            self.handles.remove(step);
        }
        results
    }
}
