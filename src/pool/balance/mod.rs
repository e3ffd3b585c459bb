//! The balancing algorithms: pure, each owned by one worker.
//!
//! All of them answer the same question, "which of those that `may` be chosen is next?", by index.

mod least_connections;
mod rotation;

pub use least_connections::LeastConnections;
pub use rotation::Rotation;
