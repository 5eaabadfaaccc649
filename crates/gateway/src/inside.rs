//! The doors as a program in a box has them: the same calls, on the meter of its workload and without a key of anybody's.
//!
//! Invariant: whoever calls this has made sure which workload asks. What the call costs is counted where a run's steps are: in the
//! tenant, in the agent of the run, and on the workload's own meter.

use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;
use lantern_cedar::Who;
use lantern_edge::{Code, Error, Result, Shape};
use lantern_ledger::Meter;
use lantern_llm::Door;
use lantern_policy::Scope;
use lantern_types::{AgentId, RequestId};

use crate::call::{Request, call_of};
use crate::open::{Asker, Bill};
use crate::{Doors, models, shape};

/// What a program in a box asks.
pub struct Inside {
    /// The tenant of its workload.
    pub scope: Scope,
    /// The agent of its run and its name, if there is one.
    pub agent: Option<(AgentId, String)>,
    /// The workload's meter.
    pub meter: Meter,
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Why it is refused whatever it asks.
    pub denied: Option<&'static str>,
}

/// What it is answered.
pub struct Answered {
    /// In the words of its wire. What the call cost is settled when the body has come to its end or is dropped.
    pub response: Response,
    /// Why it was refused, when it was, in words for the workload's log.
    pub refused: Option<String>,
}

/// Which door a path is. `None` for a path that is none.
fn door(path: &str) -> Option<(Door, Shape)> {
    Some(match path {
        "/v1/chat/completions" => (Door::Chat, shape::PLAIN),
        "/v1/responses" => (Door::Responses, shape::PLAIN),
        "/v1/embeddings" => (Door::Embeddings, shape::PLAIN),
        "/v1/messages" => (Door::Messages, shape::TYPED),
        _ => return None,
    })
}

impl Doors {
    /// Answers a program in a box.
    pub async fn inside(&self, asked: Inside) -> Answered {
        let shape = door(&asked.path).map_or(shape::PLAIN, |(_, shape)| shape);
        match self.asked_inside(asked).await {
            Ok(response) => Answered { response, refused: None },
            Err(error) => {
                let id = RequestId::from_uuid(self.inner.ids.uuid());
                error.log(id);
                Answered { response: error.render_shaped(id, shape), refused: Some(error.to_string()) }
            }
        }
    }

    async fn asked_inside(&self, asked: Inside) -> Result<Response> {
        let Inside { scope, agent, meter, method, path, headers, body, denied } = asked;
        if let Some(why) = denied {
            return Err(Error::new(Code::Unauthorized, why));
        }
        if method == "GET" && path == "/v1/models" {
            return models::list(self.clone(), scope, &headers).await;
        }
        let door = door(&path).filter(|_| method == "POST");
        let Some((door, _)) = door else {
            let words = "in a box there are POST /v1/chat/completions, /v1/responses, /v1/messages and /v1/embeddings, and GET /v1/models";
            return Err(Error::new(Code::RouteNotFound, words));
        };
        let asker = agent.as_ref().map_or(Asker::Person, |(id, _)| Asker::Agent(*id));
        let agent = agent.map(|(_, name)| name);
        // A workload without an agent is nobody's that a policy could name.
        let name = agent.clone().unwrap_or_default();
        let request = Request { door, headers, body, agent };
        call_of(self, (scope, asker, Who::Agent(&name), Some(&meter)), request, &Bill::default()).await
    }
}
