//! Chat completions (OpenAI and those who imitate it).

pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod stream_in;
pub(crate) mod stream_out;
pub(crate) mod write;
