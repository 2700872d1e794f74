//! One binary for all integration tests: it links once.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod assignment;
mod config;
mod deploy;
mod fallback;
mod faults;
mod forwarding;
mod life;
mod reload;
mod server_file;
mod shadow;
mod support;
mod tidy;
mod upstream;
mod upstream_breaker;
mod upstream_health;
mod upstream_tls;
