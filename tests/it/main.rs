//! One binary for all integration tests: it links once.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod affinity;
mod assignment;
mod big_bodies;
mod config;
mod deploy;
mod early_answers;
mod fallback;
mod faults;
mod faults_clients;
mod faults_config;
mod faults_mirror;
mod faults_store;
mod faults_upstream;
mod faults_websocket;
mod forwarding;
mod idempotency;
mod lease;
mod life;
mod limits;
mod load;
mod grpc;
mod http2;
mod http2_attacks;
mod proxy_protocol;
mod raw_bytes;
mod reload;
mod resting;
mod rewrite;
mod second_looks;
mod server_file;
mod shadow;
mod strict;
mod support;
mod tidy;
mod trailers;
mod tls;
mod upstream;
mod upstream_breaker;
mod upstream_health;
mod upstream_tls;
mod verdicts;
mod websocket;
mod writes;
