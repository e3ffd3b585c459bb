//! How many connections this process can hold, by its descriptors.

use crate::config::Plan;

/// What a process of this plan may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Connections at once.
    pub connections: u32,
    /// Pipes of each worker.
    pub pipes: u32,
    /// Buffers of each worker.
    pub buffers: u32,
}

/// Descriptors kept for everything but connections: logs, event queues, listeners, a probe.
const RESERVE: u64 = 32;
/// The same for each worker: its event queue, waker and the connections it accepts in a race.
const RESERVE_PER_WORKER: u64 = 8;

impl Capacity {
    /// What `descriptors` allow: two for each connection, two for each pipe, a reserve.
    ///
    /// # Errors
    /// A message with the numbers when the plan wants more than there is.
    pub fn of(plan: &Plan, workers: usize, descriptors: u64) -> Result<Capacity, String> {
        let workers = workers as u64;
        let sockets =
            plan.listeners.iter().map(|listener| listener.binds.len() as u64).sum::<u64>();
        let reserve = RESERVE + workers * (RESERVE_PER_WORKER + sockets);
        // A pipe is lent only while bytes are in it, so there are far fewer than connections. They
        // may take a sixteenth of the descriptors.
        let pipes = (descriptors / 32 / workers).clamp(4, 512);
        let left = descriptors.saturating_sub(reserve + 2 * pipes * workers);
        let possible = u32::try_from(left / 2).unwrap_or(u32::MAX);
        let connections = match plan.limits.max_connections {
            Some(wanted) if wanted > possible => {
                let needed = u64::from(wanted) * 2 + reserve + 2 * pipes * workers;
                return Err(format!(
                    "limits.max_connections: {wanted} connections need {needed} file descriptors \
                     (two each, {pipes} pipes a worker, {reserve} in reserve), and the limit is \
                     {descriptors}: raise it (ulimit -n {needed}, or LimitNOFILE= in the unit), or \
                     set max_connections to {possible} or less"
                ));
            }
            Some(wanted) => wanted,
            None if possible == 0 => {
                return Err(format!(
                    "{descriptors} file descriptors are too few to proxy even one connection: \
                     raise the limit (ulimit -n), at least to {}",
                    reserve + 2 * pipes * workers + 2
                ));
            }
            None => possible,
        };
        // Both directions of every connection can have one parcel in hand.
        let buffers = plan.limits.buffers.unwrap_or(connections.saturating_mul(2).max(64));
        Ok(Capacity { connections, pipes: pipes as u32, buffers })
    }
}
