//! Every decision strangler takes, as pure functions: no I/O, no clock, no chance. They come in as arguments.
//!
//! The order below is the way of the data; a module names only those above it (held by `tests/it/tidy.rs`).

#![warn(missing_docs, clippy::indexing_slicing)]

pub mod chain;
pub mod name;
pub mod weight;
pub mod web;
pub mod judge;
pub mod side;
pub mod template;
pub mod day;
pub mod calendar;
pub mod difference;
pub mod rewrite;
pub mod rate_limit;
pub mod route;
pub mod cidr;
pub mod server;
pub mod shed;
pub mod upload_rate;
pub mod linger;
pub mod interim;
pub mod sniff;
pub mod frames;
pub mod proxy_protocol;
pub mod sni;
pub mod subject;
pub mod grpc;
pub mod caching;
pub mod door;
pub mod framing;
pub mod facts;
pub mod matching;
pub mod tree;
pub mod fault;
pub mod limits;
pub mod raw;
pub mod table;
pub mod runtime;
pub mod past;
pub mod snapshot;
pub mod signing;
pub mod override_token;
pub mod split;
pub mod lease;
pub mod decide;
pub mod affinity;
pub mod reload;
pub mod schema;
pub mod shadow;
pub mod observation;
pub mod unit;
pub mod idempotency;
pub mod fallback;
pub mod balance;
pub mod health;
pub mod outlier;
pub mod breaker;
pub mod json;
pub mod compare;
pub mod contract;
pub mod redact;
pub mod release;
pub mod noise;
pub mod audit;
pub mod sketch;
pub mod latency;
pub mod coverage;
pub mod discovery;
pub mod ledger;
pub mod rollout;
pub mod hook;
pub mod veto;
pub mod explain;

#[cfg(any(test, feature = "fixture"))]
#[expect(clippy::unwrap_used, reason = "a sample that is wrong stops the test")]
mod samples;
#[cfg(any(test, feature = "fixture"))]
#[expect(clippy::unwrap_used, reason = "a sample that is wrong stops the test")]
pub mod fixture;
