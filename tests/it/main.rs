//! One binary for all integration tests: it links once.

mod fallback;
mod forwarding;
mod support;
mod tidy;
