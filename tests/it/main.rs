//! All integration tests, in one binary.

mod config;
mod support {
    pub(crate) mod invalid_routes;
}
