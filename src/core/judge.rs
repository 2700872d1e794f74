//! tmp
pub mod budget;
pub mod interval;
pub mod late;
pub mod many;
mod numbers;
pub mod ratio;
pub mod share;
