//! Messages as Anthropic documents them. <https://docs.anthropic.com/en/api/messages>

use serde_json::{Number, Value};

use super::Said;
use crate::neutral::Json;

shapes! {
    /// The body of `POST /v1/messages`.
    Request {
        model: String,
        max_tokens: u64,
        system: Said<Block>,
        messages: Vec<Message>,
        tools: Vec<Tool>,
        tool_choice: ToolChoice,
        temperature: Number,
        top_p: Number,
        top_k: Number,
        stop_sequences: Vec<String>,
        thinking: Thinking,
        output_config: OutputConfig,
        metadata: Metadata,
        stream: bool,
    }
    Metadata { user_id: String, }
    Thinking {
        #[serde(rename = "type")]
        kind: String,
        budget_tokens: u64,
        display: String,
    }
    OutputConfig { effort: String, format: OutputFormat, }
    OutputFormat {
        #[serde(rename = "type")]
        kind: String,
        schema: Json,
    }
    Message { role: String, content: Said<Block>, }
    /// A content block of any kind.
    Block {
        #[serde(rename = "type")]
        kind: String,
        text: String,
        /// A [`Source`] in images and documents, a text in search results.
        source: Json,
        title: String,
        id: String,
        name: String,
        input: Json,
        tool_use_id: String,
        /// A text or blocks in results of tools; a result of another kind may have an object.
        content: Json,
        is_error: bool,
        thinking: String,
        signature: String,
        data: String,
        cache_control: CacheControl,
    }
    CacheControl {
        #[serde(rename = "type")]
        kind: String,
        ttl: String,
    }
    Source {
        #[serde(rename = "type")]
        kind: String,
        media_type: String,
        data: String,
        url: String,
        file_id: String,
    }
    Tool {
        #[serde(rename = "type")]
        kind: String,
        name: String,
        description: String,
        input_schema: Json,
        strict: bool,
        cache_control: CacheControl,
    }
    ToolChoice {
        #[serde(rename = "type")]
        kind: String,
        name: String,
        disable_parallel_tool_use: bool,
    }
    /// A whole reply, and the message of `message_start`.
    Reply {
        id: String,
        #[serde(rename = "type")]
        kind: String,
        role: String,
        model: String,
        content: Vec<Block>,
        stop_reason: String,
        stop_sequence: String,
        usage: Usage,
        error: Value,
    }
    Usage {
        input_tokens: u64,
        cache_creation_input_tokens: u64,
        cache_read_input_tokens: u64,
        cache_creation: CacheCreation,
        output_tokens: u64,
        output_tokens_details: OutputDetails,
    }
    CacheCreation { ephemeral_5m_input_tokens: u64, ephemeral_1h_input_tokens: u64, }
    OutputDetails { thinking_tokens: u64, }
    /// An event of a stream, of any type.
    Event {
        #[serde(rename = "type")]
        kind: String,
        message: Reply,
        index: u64,
        content_block: Block,
        delta: Moved,
        usage: Usage,
        error: Value,
    }
    /// What an event adds to a block or to the message.
    Moved {
        #[serde(rename = "type")]
        kind: String,
        text: String,
        partial_json: String,
        thinking: String,
        signature: String,
        stop_reason: String,
        stop_sequence: String,
    }
}
