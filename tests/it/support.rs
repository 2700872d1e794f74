//! What tests are made of.

pub mod backend;
pub mod invalid_routes;
pub mod load;
pub mod proxy;
