//! Converse (AWS Bedrock).

mod blocks;
pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod stream_in;
pub(crate) mod stream_out;
