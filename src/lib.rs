//! strangler: a reverse proxy that takes a monolith apart in production, route by route, by evidence.

pub mod admin;
pub mod args;
pub mod cli;
pub mod config;
pub mod hooks;
pub mod live;
pub mod proxy;
pub mod rollout;
pub mod run;
pub mod shadow;
pub mod store;
pub mod telemetry;
pub mod upstream;
