//! What tests are made of.

pub(crate) mod backend;
pub(crate) mod browser;
pub(crate) mod fault;
pub(crate) mod invalid_routes;
pub(crate) mod load;
pub(crate) mod origin;
pub(crate) mod pauses;
pub(crate) mod plane;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod secure;
pub(crate) mod traffic;
pub(crate) mod wire;
