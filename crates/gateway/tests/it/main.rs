//! The front doors from the inside.

mod routes;
