//! Emergency stops, as journals, rows and the API name them.

use serde::{Deserialize, Serialize};

/// What an emergency stop halts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopScope {
    /// The runs of one agent.
    Agent,
    /// Every run of a tenant.
    Tenant,
    /// Every run of everybody.
    Server,
}

impl StopScope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Agent, Self::Tenant, Self::Server];

    /// As it is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Tenant => "tenant",
            Self::Server => "server",
        }
    }

    /// The scope of this name.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word)
    }
}
