//! What is told to the outside: metrics, the access log, logs. Every metric name is in `metrics`.

pub mod access_log;
pub mod logs;
pub mod metrics;
