//! What runs do, told as stories: inputs in, events and effects out.

#[cfg(test)]
mod agent;
#[cfg(test)]
mod approvals;
#[cfg(test)]
mod desk;
#[cfg(test)]
mod fork;
#[cfg(test)]
mod history;
#[cfg(test)]
mod outside;
mod over_cap;
#[cfg(test)]
mod recall;
#[cfg(test)]
mod steps;
mod stops;
#[cfg(test)]
mod usage;
