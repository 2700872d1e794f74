//! The monolith as its callers see it: over sockets, on ports of its own.

mod support;

mod agreement;
mod api;
mod buying;
mod pages;
mod reading;
mod tail;
