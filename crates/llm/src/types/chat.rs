//! Chat completions as OpenAI documents them and many servers imitate them.
//! <https://platform.openai.com/docs/api-reference/chat>

use serde_json::{Number, Value};

use super::Said;
use crate::neutral::{Extra, Json};

shapes! {
    /// The body of `POST /chat/completions`.
    Request {
        model: String,
        messages: Vec<Message>,
        tools: Vec<Tool>,
        tool_choice: Value,
        parallel_tool_calls: bool,
        response_format: ResponseFormat,
        max_tokens: u64,
        max_completion_tokens: u64,
        temperature: Number,
        top_p: Number,
        top_k: Number,
        frequency_penalty: Number,
        presence_penalty: Number,
        seed: Number,
        stop: Said<String>,
        reasoning_effort: String,
        user: String,
        metadata: Extra,
        stream: bool,
        stream_options: StreamOptions,
    }
    StreamOptions { include_usage: bool, }
    /// A message of a request, the message of a whole reply, or what a chunk adds to it.
    Message {
        role: String,
        content: Said<Part>,
        name: String,
        refusal: String,
        tool_calls: Vec<Call>,
        tool_call_id: String,
        /// Thoughts, as DeepSeek and those who follow it write them.
        reasoning_content: String,
        /// Thoughts, as OpenRouter, Groq and Ollama write them.
        reasoning: String,
        /// Thoughts with their proofs, as OpenRouter writes them.
        reasoning_details: Vec<ReasoningDetail>,
    }
    ReasoningDetail {
        #[serde(rename = "type")]
        kind: String,
        id: String,
        format: String,
        index: u64,
        text: String,
        summary: String,
        data: String,
        signature: String,
    }
    Part {
        #[serde(rename = "type")]
        kind: String,
        text: String,
        refusal: String,
        image_url: ImageUrl,
        input_audio: InputAudio,
        file: File,
        /// Thoughts as Mistral writes them: parts inside a part.
        thinking: Value,
        prompt_cache_breakpoint: CacheBreakpoint,
        /// A cache breakpoint as OpenRouter passes it on.
        cache_control: CacheControl,
    }
    CacheBreakpoint { mode: String, ttl: String, }
    CacheControl {
        #[serde(rename = "type")]
        kind: String,
        ttl: String,
    }
    ImageUrl { url: String, detail: String, }
    InputAudio { data: String, format: String, }
    File {
        #[serde(rename = "file_data")]
        data: String,
        #[serde(rename = "file_id")]
        id: String,
        filename: String,
    }
    Call {
        index: u64,
        id: String,
        #[serde(rename = "type")]
        kind: String,
        function: CallFunction,
        custom: Json,
        /// Where Google's imitation of this wire keeps its proofs.
        extra_content: ExtraContent,
    }
    CallFunction { name: String, arguments: String, }
    ExtraContent { google: GoogleContent, }
    GoogleContent { thought_signature: String, }
    Tool {
        #[serde(rename = "type")]
        kind: String,
        function: ToolFunction,
        cache_control: CacheControl,
    }
    ToolFunction { name: String, description: String, parameters: Json, strict: bool, }
    ResponseFormat {
        #[serde(rename = "type")]
        kind: String,
        json_schema: JsonSchema,
    }
    JsonSchema { name: String, description: String, schema: Json, strict: bool, }

    /// One event of a stream, or a whole reply: they differ only in the name of the choice's message.
    Chunk {
        id: String,
        object: String,
        created: Value,
        model: String,
        choices: Vec<Choice>,
        usage: Value,
        error: Value,
        /// Where Groq's streams keep the usage.
        x_groq: GroqContent,
    }
    GroqContent { usage: Value, }
    Choice {
        index: u64,
        delta: Message,
        message: Message,
        finish_reason: String,
    }

    /// The body of `GET /models`, here and where this wire is imitated.
    ModelList { data: Vec<ListedModel>, models: Vec<ListedModel>, }
    ListedModel { id: String, name: String, }
}
