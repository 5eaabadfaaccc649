//! The `lantern` program from the outside.

#[cfg(test)]
mod cli;
#[cfg(test)]
mod cli_doctor;
#[cfg(test)]
mod cli_fake;
#[cfg(test)]
mod cli_follow;
#[cfg(test)]
mod cli_help;
#[cfg(test)]
mod cli_login;
#[cfg(test)]
mod cli_members;
#[cfg(test)]
mod cli_settings;
#[cfg(test)]
mod cli_told;
#[cfg(test)]
mod description;
#[cfg(test)]
mod e2e;
