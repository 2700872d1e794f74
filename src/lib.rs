//! strangler: a reverse proxy that takes a monolith apart in production, route by route, by evidence.

pub mod config;
pub mod live;
pub mod proxy;
pub mod store;
pub mod telemetry;
pub mod upstream;
pub mod run;
pub mod admin;
pub mod args;
pub mod cli;
