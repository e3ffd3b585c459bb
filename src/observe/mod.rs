//! What an operator sees of a running process.
//!
//! Knows: the plan's names, time, how sessions end. Does not know: who has something to say.

pub mod access_log;
pub mod color;
pub mod logging;
pub mod outlet;
pub mod wall;
