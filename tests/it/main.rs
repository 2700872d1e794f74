//! One binary for all integration tests: it links once.

mod assignment;
mod config;
mod fallback;
mod forwarding;
mod support;
mod tidy;
