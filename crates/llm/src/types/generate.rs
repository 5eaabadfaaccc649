//! generateContent as Google documents it for Gemini. <https://ai.google.dev/api/generate-content>
//!
//! The documented names are in camelCase; requests in snake_case are accepted by the service too, and here.

use serde_json::{Number, Value};

use crate::neutral::{Extra, Json};

shapes! {
    /// The body of `POST /models/{model}:generateContent` and `:streamGenerateContent`.
    #[serde(rename_all = "camelCase")]
    Request {
        #[serde(alias = "system_instruction")]
        system_instruction: Content,
        contents: Vec<Content>,
        tools: Vec<Tool>,
        #[serde(alias = "tool_config")]
        tool_config: ToolConfig,
        #[serde(alias = "generation_config")]
        generation_config: GenerationConfig,
        labels: Extra,
    }
    Content { role: String, parts: Vec<Part>, }
    #[serde(rename_all = "camelCase")]
    Part {
        text: String,
        thought: bool,
        #[serde(alias = "thought_signature")]
        thought_signature: String,
        #[serde(alias = "inline_data")]
        inline_data: Blob,
        #[serde(alias = "file_data")]
        file_data: FileData,
        #[serde(alias = "function_call")]
        function_call: FunctionCall,
        #[serde(alias = "function_response")]
        function_response: FunctionResponse,
    }
    #[serde(rename_all = "camelCase")]
    Blob {
        #[serde(alias = "mime_type")]
        mime_type: String,
        data: String,
        #[serde(alias = "display_name")]
        display_name: String,
    }
    #[serde(rename_all = "camelCase")]
    FileData {
        #[serde(alias = "mime_type")]
        mime_type: String,
        #[serde(alias = "file_uri")]
        file_uri: String,
        #[serde(alias = "display_name")]
        display_name: String,
    }
    FunctionCall { id: String, name: String, args: Json, }
    FunctionResponse { id: String, name: String, response: Json, parts: Vec<Part>, }
    #[serde(rename_all = "camelCase")]
    Tool {
        #[serde(alias = "function_declarations")]
        function_declarations: Vec<Declaration>,
    }
    #[serde(rename_all = "camelCase")]
    Declaration {
        name: String,
        description: String,
        /// A schema in Google's own words, with types in capitals.
        parameters: Json,
        #[serde(alias = "parameters_json_schema")]
        parameters_json_schema: Json,
    }
    #[serde(rename_all = "camelCase")]
    ToolConfig {
        #[serde(alias = "function_calling_config")]
        function_calling_config: CallingConfig,
    }
    #[serde(rename_all = "camelCase")]
    CallingConfig {
        mode: String,
        #[serde(alias = "allowed_function_names")]
        allowed_function_names: Vec<String>,
    }
    #[serde(rename_all = "camelCase")]
    GenerationConfig {
        temperature: Number,
        #[serde(alias = "top_p")]
        top_p: Number,
        #[serde(alias = "top_k")]
        top_k: Number,
        #[serde(alias = "max_output_tokens")]
        max_output_tokens: u64,
        #[serde(alias = "stop_sequences")]
        stop_sequences: Vec<String>,
        seed: Number,
        #[serde(alias = "presence_penalty")]
        presence_penalty: Number,
        #[serde(alias = "frequency_penalty")]
        frequency_penalty: Number,
        #[serde(alias = "response_mime_type")]
        response_mime_type: String,
        /// A schema in Google's own words, with types in capitals.
        #[serde(alias = "response_schema")]
        response_schema: Json,
        #[serde(alias = "response_json_schema")]
        response_json_schema: Json,
        #[serde(alias = "thinking_config")]
        thinking_config: ThinkingConfig,
    }
    #[serde(rename_all = "camelCase")]
    ThinkingConfig {
        #[serde(alias = "include_thoughts")]
        include_thoughts: bool,
        #[serde(alias = "thinking_budget")]
        thinking_budget: i64,
        #[serde(alias = "thinking_level")]
        thinking_level: String,
    }

    /// A whole reply, and one event of a stream.
    #[serde(rename_all = "camelCase")]
    Reply {
        candidates: Vec<Candidate>,
        prompt_feedback: PromptFeedback,
        usage_metadata: Usage,
        model_version: String,
        response_id: String,
        error: Value,
    }
    #[serde(rename_all = "camelCase")]
    Candidate {
        content: Content,
        finish_reason: String,
        finish_message: String,
        index: u64,
    }
    #[serde(rename_all = "camelCase")]
    PromptFeedback { block_reason: String, block_reason_message: String, }
    #[serde(rename_all = "camelCase")]
    Usage {
        prompt_token_count: u64,
        cached_content_token_count: u64,
        candidates_token_count: u64,
        thoughts_token_count: u64,
        tool_use_prompt_token_count: u64,
        total_token_count: u64,
    }
}
