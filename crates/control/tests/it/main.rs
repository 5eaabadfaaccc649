//! The control plane over its real router and a real database; two tenants always exist.

#[cfg(test)]
mod agents;
mod aliases;
#[cfg(test)]
mod app;
#[cfg(test)]
mod approvals;
#[cfg(test)]
mod audit;
#[cfg(test)]
mod batch;
#[cfg(test)]
mod bodies;
#[cfg(test)]
mod conditional;
#[cfg(test)]
mod cors;
#[cfg(test)]
mod events;
#[cfg(test)]
mod factors;
#[cfg(test)]
mod feedback;
#[cfg(test)]
mod fork;
#[cfg(test)]
mod goldens;
#[cfg(test)]
mod hand;
#[cfg(test)]
mod issuer;
#[cfg(test)]
mod keyed;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod lists;
#[cfg(test)]
mod lockout;
#[cfg(test)]
mod members;
#[cfg(test)]
mod money;
#[cfg(test)]
mod passes;
#[cfg(test)]
mod passwords;
#[cfg(test)]
mod platform;
#[cfg(test)]
mod policies;
#[cfg(test)]
mod postgres;
#[cfg(test)]
mod prefer;
#[cfg(test)]
mod providers;
#[cfg(test)]
mod receipts;
#[cfg(test)]
mod retention;
#[cfg(test)]
mod routing;
mod runs;
#[cfg(test)]
mod runtime;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod session;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod sso;
#[cfg(test)]
mod steer;
#[cfg(test)]
mod stops;
#[cfg(test)]
mod templates;
#[cfg(test)]
mod texts;
#[cfg(test)]
mod tickets;
#[cfg(test)]
mod traces;
#[cfg(test)]
mod unreadable;
#[cfg(test)]
mod versions;
#[cfg(test)]
mod walk;
