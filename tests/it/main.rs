//! One binary for all integration tests: it links once.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod assignment;
mod config;
mod fallback;
mod forwarding;
mod reload;
mod support;
mod tidy;
