//! What runs do, told as stories: inputs in, events and effects out.

mod agent;
mod desk;
mod history;
mod steps;
