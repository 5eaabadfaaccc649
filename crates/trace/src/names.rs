//! What spans and their attributes are called: the semantic conventions of OpenTelemetry for generative AI where they have a
//! word, as of version 1.37, and `lantern.` where they have none.

pub(crate) const OPERATION: &str = "gen_ai.operation.name";
pub(crate) const PROVIDER: &str = "gen_ai.provider.name";
/// What the provider was called before 1.37. Many who read spans know this one alone.
pub(crate) const SYSTEM: &str = "gen_ai.system";
pub(crate) const REQUEST_MODEL: &str = "gen_ai.request.model";
pub(crate) const REQUEST_MAX_TOKENS: &str = "gen_ai.request.max_tokens";
pub(crate) const RESPONSE_MODEL: &str = "gen_ai.response.model";
pub(crate) const INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
pub(crate) const OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
pub(crate) const AGENT_ID: &str = "gen_ai.agent.id";
pub(crate) const AGENT_NAME: &str = "gen_ai.agent.name";
pub(crate) const CONVERSATION: &str = "gen_ai.conversation.id";
pub(crate) const TOOL_NAME: &str = "gen_ai.tool.name";
pub(crate) const ERROR_TYPE: &str = "error.type";

pub(crate) const TENANT: &str = "lantern.tenant_id";
pub(crate) const RUN: &str = "lantern.run_id";
pub(crate) const PARENT_RUN: &str = "lantern.parent_run_id";
pub(crate) const CONTINUES_RUN: &str = "lantern.continues_run_id";
pub(crate) const FORKS_RUN: &str = "lantern.forks_run_id";
pub(crate) const INSTANCE: &str = "lantern.agent_instance_id";
pub(crate) const VERSION: &str = "lantern.agent_version_id";
pub(crate) const STATUS: &str = "lantern.run_status";
pub(crate) const STEP: &str = "lantern.step_id";
pub(crate) const STEP_KIND: &str = "lantern.step_kind";
pub(crate) const ATTEMPT: &str = "lantern.step_attempt";
pub(crate) const GENERATION: &str = "lantern.step_generation";
pub(crate) const COST: &str = "lantern.cost_micro_usd";
/// What may have been billed beside that; nobody knows.
pub(crate) const UNCONFIRMED: &str = "lantern.cost_unconfirmed_micro_usd";
pub(crate) const IN_DOUBT: &str = "lantern.in_doubt";
pub(crate) const REUSED: &str = "lantern.reused";
pub(crate) const METERED: &str = "lantern.metered";
pub(crate) const ABANDONED: &str = "lantern.abandoned";
pub(crate) const ASKED: &str = "lantern.asked";
pub(crate) const ANSWER: &str = "lantern.answer";

pub(crate) const CHAT: &str = "chat";
pub(crate) const EXECUTE_TOOL: &str = "execute_tool";
pub(crate) const INVOKE_AGENT: &str = "invoke_agent";
