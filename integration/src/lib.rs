//! End-to-end tests of the runtime on the real kernel.

pub mod client;
