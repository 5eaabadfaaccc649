//! Converse as AWS documents it for Bedrock.
//! <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html>

use serde_json::Number;

use crate::neutral::{Extra, Json};

shapes! {
    /// The body of `POST /model/{modelId}/converse` and `/converse-stream`.
    #[serde(rename_all = "camelCase")]
    Request {
        messages: Vec<Message>,
        system: Vec<Block>,
        inference_config: InferenceConfig,
        tool_config: ToolConfig,
        additional_model_request_fields: Extra,
        #[serde(rename = "requestMetadata")]
        labels: Extra,
        output_config: OutputConfig,
    }
    Message { role: String, content: Vec<Block>, }
    /// A content block: one of its fields says which.
    #[serde(rename_all = "camelCase")]
    Block {
        text: String,
        image: Media,
        document: Media,
        audio: Media,
        tool_use: ToolUse,
        tool_result: ToolResult,
        reasoning_content: Reasoning,
        cache_point: CachePoint,
        json: Json,
    }
    Media { format: String, name: String, source: Source, }
    #[serde(rename_all = "camelCase")]
    Source { bytes: String, text: String, s3_location: S3Location, }
    S3Location { uri: String, }
    #[serde(rename_all = "camelCase")]
    ToolUse {
        #[serde(rename = "toolUseId")]
        id: String,
        name: String,
        input: Json,
    }
    #[serde(rename_all = "camelCase")]
    ToolResult { tool_use_id: String, content: Vec<Block>, status: String, }
    #[serde(rename_all = "camelCase")]
    Reasoning {
        #[serde(rename = "reasoningText")]
        said: ReasoningText,
        redacted_content: String,
    }
    ReasoningText { text: String, signature: String, }
    CachePoint {
        #[serde(rename = "type")]
        kind: String,
        ttl: String,
    }
    #[serde(rename_all = "camelCase")]
    InferenceConfig { max_tokens: u64, temperature: Number, top_p: Number, stop_sequences: Vec<String>, }
    #[serde(rename_all = "camelCase")]
    ToolConfig { tools: Vec<Tool>, tool_choice: ToolChoice, }
    #[serde(rename_all = "camelCase")]
    Tool {
        #[serde(rename = "toolSpec")]
        spec: ToolSpec,
        cache_point: CachePoint,
    }
    #[serde(rename_all = "camelCase")]
    ToolSpec { name: String, description: String, input_schema: InputSchema, strict: bool, }
    InputSchema { json: Json, }
    ToolChoice { auto: Extra, any: Extra, tool: NamedTool, }
    NamedTool { name: String, }
    #[serde(rename_all = "camelCase")]
    OutputConfig { text_format: TextFormat, }
    TextFormat {
        #[serde(rename = "type")]
        kind: String,
        structure: Structure,
    }
    #[serde(rename_all = "camelCase")]
    Structure { json_schema: SchemaText, }
    /// The schema is JSON inside a text.
    SchemaText { schema: String, name: String, description: String, }

    /// A whole reply.
    #[serde(rename_all = "camelCase")]
    Reply { output: Output, stop_reason: String, usage: Usage, metrics: Metrics, }
    Output { message: Message, }
    #[serde(rename_all = "camelCase")]
    Metrics { latency_ms: u64, }
    #[serde(rename_all = "camelCase")]
    Usage {
        input_tokens: u64,
        output_tokens: u64,
        total_tokens: u64,
        cache_read_input_tokens: u64,
        cache_write_input_tokens: u64,
        cache_details: Vec<CacheDetail>,
    }
    #[serde(rename_all = "camelCase")]
    CacheDetail { ttl: String, input_tokens: u64, }
    /// The payload of an event of a stream, of any type.
    #[serde(rename_all = "camelCase")]
    Event {
        role: String,
        content_block_index: u64,
        start: Start,
        delta: Moved,
        stop_reason: String,
        usage: Usage,
        metrics: Metrics,
        message: String,
    }
    #[serde(rename_all = "camelCase")]
    Start { tool_use: ToolUse, }
    #[serde(rename_all = "camelCase")]
    Moved { text: String, tool_use: MovedTool, reasoning_content: MovedReasoning, }
    MovedTool { input: String, }
    #[serde(rename_all = "camelCase")]
    MovedReasoning { text: String, signature: String, redacted_content: String, }
}
