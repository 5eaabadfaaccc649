//! What calls and runs may cost, and what they did.

pub(crate) mod budgets;
pub(crate) mod calls;
pub(crate) mod caps;
pub(crate) mod forecast;
pub(crate) mod usage;
