//! The edge's measurements, in one file: names in snake_case with their unit last, labels with few values.
//!
//! Invariant: no label holds a tenant, an id or a path as it was asked for; the route's template stands for the path.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use http::{Method, StatusCode};
use lantern_net::Shutdown;
use lantern_types::Dur;
use lantern_types::edge::{Clock, Tasks};
use metrics::{Counter, Histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

const REQUESTS: &str = "http_requests_total";
const STOPS: &str = "stops_holding";
const DURATION: &str = "http_request_duration_seconds";
/// From a cached read to a request that waits for a run.
const BUCKETS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0];
/// How often samples are folded into their buckets, so that they do not pile up between two readings.
const UPKEEP: Dur = Dur::from_secs(5);

/// The collection, once there is one.
static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
/// What each route's answers are counted with: to find a measurement by its labels takes more than ten times as long as to
/// count. As many as there are labels, which are few. Written when a label is met for the first time.
static METERS: RwLock<BTreeMap<String, Vec<Meter>>> = RwLock::new(BTreeMap::new());

/// What the answers of one route to one method with one status are counted with.
struct Meter {
    of: (&'static str, u16),
    answers: Counter,
    times: Histogram,
}

impl Meter {
    fn new(route: &str, (method, status): (&'static str, u16)) -> Self {
        let route = route.to_owned();
        let answers = metrics::counter!(REQUESTS, "route" => route.clone(), "method" => method, "status" => status.to_string());
        let times = metrics::histogram!(DURATION, "route" => route, "method" => method);
        Self { of: (method, status), answers, times }
    }

    fn count(&self, took: Dur) {
        self.answers.increment(1);
        self.times.record(took.std().as_secs_f64());
    }
}

/// The process's measurements, as Prometheus reads them. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl Metrics {
    /// Collects what this process measures from now on. There is one collection a process: a second call answers
    /// the first one.
    pub fn install() -> Self {
        let handle = HANDLE.get_or_init(|| {
            let builder = PrometheusBuilder::new();
            let builder = builder.set_buckets(&BUCKETS).unwrap_or_else(|_| PrometheusBuilder::new());
            let recorder = builder.build_recorder();
            let handle = recorder.handle();
            if metrics::set_global_recorder(recorder).is_err() {
                tracing::warn!("another recorder collects this process's metrics; /metrics stays empty");
            }
            metrics::describe_counter!(REQUESTS, "Answered requests.");
            metrics::describe_gauge!(STOPS, "Emergency stops that hold.");
            metrics::describe_histogram!(DURATION, "Time from the request's head to the answer's head.");
            handle
        });
        Self { handle: handle.clone() }
    }

    /// Keeps the collection small while nobody reads it, until the process stops.
    pub fn keep(&self, tasks: &dyn Tasks, clock: Arc<dyn Clock>, stop: Shutdown) {
        let handle = self.handle.clone();
        let upkeep = async move {
            while !stop.is_requested() {
                tokio::select! {
                    biased;
                    () = stop.requested() => {}
                    () = clock.sleep(UPKEEP) => handle.run_upkeep(),
                }
            }
        };
        tasks.spawn("metrics.upkeep", Box::pin(upkeep));
    }

    /// How many emergency stops hold, by what they halt.
    #[expect(clippy::cast_precision_loss, reason = "nobody sets so many")]
    pub fn stops(&self, holding: [(&'static str, u64); 3]) {
        for (scope, count) in holding {
            metrics::gauge!(STOPS, "scope" => scope).set(count as f64);
        }
    }

    /// Everything, in Prometheus's text format.
    pub fn render(&self) -> String {
        self.handle.render()
    }
}

/// Counts one answer.
pub(crate) fn answered(route: &str, method: &Method, status: StatusCode, took: Dur) {
    let of = (named(method), status.as_u16());
    // Before there is a collection what counts is counted nowhere, and is not to be kept.
    if HANDLE.get().is_none() {
        return Meter::new(route, of).count(took);
    }
    let meters = METERS.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(meter) = meters.get(route).and_then(|all| all.iter().find(|meter| meter.of == of)) {
        return meter.count(took);
    }
    drop(meters);
    let meter = Meter::new(route, of);
    meter.count(took);
    let mut meters = METERS.write().unwrap_or_else(PoisonError::into_inner);
    // Two that meet it at once both keep theirs: it is the same measurement.
    meters.entry(route.to_owned()).or_default().push(meter);
}

/// A method that anybody may invent must not become a label.
fn named(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
