//! What tests are made of.

pub mod backend;
pub mod load;
pub mod proxy;
