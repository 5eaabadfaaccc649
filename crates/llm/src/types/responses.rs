//! Responses as OpenAI documents them. <https://platform.openai.com/docs/api-reference/responses>

use serde_json::{Number, Value};

use super::Said;
use crate::neutral::{Extra, Json};

shapes! {
    /// The body of `POST /responses`.
    Request {
        model: String,
        instructions: String,
        input: Said<Item>,
        tools: Vec<Tool>,
        tool_choice: Value,
        parallel_tool_calls: bool,
        text: TextConfig,
        reasoning: Reasoning,
        max_output_tokens: u64,
        temperature: Number,
        top_p: Number,
        user: String,
        metadata: Extra,
        stream: bool,
    }
    TextConfig { format: Format, }
    Format {
        #[serde(rename = "type")]
        kind: String,
        name: String,
        description: String,
        schema: Json,
        strict: bool,
    }
    Reasoning { effort: String, summary: String, }
    /// An item of any kind, of the input or of the output.
    Item {
        #[serde(rename = "type")]
        kind: String,
        id: String,
        role: String,
        status: String,
        content: Said<Part>,
        call_id: String,
        name: String,
        /// A text in function calls, an object elsewhere.
        arguments: Value,
        /// A text or parts in results of functions, other things elsewhere.
        output: Json,
        summary: Vec<Part>,
        encrypted_content: String,
    }
    /// A part of an item.
    Part {
        #[serde(rename = "type")]
        kind: String,
        text: String,
        refusal: String,
        image_url: String,
        detail: String,
        file_id: String,
        file_url: String,
        file_data: String,
        filename: String,
        annotations: Vec<Value>,
        prompt_cache_breakpoint: CacheBreakpoint,
    }
    CacheBreakpoint { mode: String, ttl: String, }
    Tool {
        #[serde(rename = "type")]
        kind: String,
        name: String,
        description: String,
        parameters: Json,
        strict: bool,
    }
    /// A whole reply, and what several events of a stream repeat.
    Reply {
        id: String,
        object: String,
        created_at: Number,
        status: String,
        model: String,
        output: Vec<Item>,
        error: Value,
        incomplete_details: Incomplete,
        usage: Usage,
    }
    Incomplete { reason: String, }
    Usage {
        input_tokens: u64,
        input_tokens_details: InputDetails,
        output_tokens: u64,
        output_tokens_details: OutputDetails,
        total_tokens: u64,
    }
    InputDetails { cached_tokens: u64, cache_write_tokens: u64, }
    OutputDetails { reasoning_tokens: u64, }
    /// An event of a stream, of any type.
    Event {
        #[serde(rename = "type")]
        kind: String,
        sequence_number: u64,
        output_index: u64,
        content_index: u64,
        summary_index: u64,
        item_id: String,
        item: Item,
        part: Part,
        delta: Value,
        text: String,
        refusal: String,
        arguments: String,
        response: Reply,
        code: Value,
        message: String,
    }
}
