//! strangler: a reverse proxy that takes a monolith apart in production, route by route, by evidence.

pub mod live;
pub mod upstream;
pub mod telemetry;
