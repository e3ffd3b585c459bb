//! Who is asked before whom: backups, and backends further away.

use super::BackendId;
use crate::config::PoolPlan;

/// The tiers of a pool in the order in which they are asked, the members of each in the order of the
/// plan; none is empty. `zone` is where this process stands.
///
/// By priority first; within a priority, those in our own zone before all others. A tier is used as
/// long as one backend of it may be chosen, whatever its weight, so a small tier must be able to take
/// everything: there is no spilling over while it lives. Weight 0 takes a backend out of its tier.
pub fn tiers(plan: &PoolPlan, zone: Option<&str>) -> Vec<Vec<BackendId>> {
    let mut ranked: Vec<_> = (0u16..)
        .zip(&plan.backends)
        .map(|(at, backend)| {
            let is_far = zone.is_some() && backend.zone.as_deref() != zone;
            ((backend.priority, is_far), BackendId(at))
        })
        .collect();
    ranked.sort_unstable();
    let tiers = ranked.chunk_by(|one, other| one.0 == other.0);
    tiers.map(|tier| tier.iter().map(|(_, id)| *id).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Format, parse};

    fn of(backends: &str, zone: Option<&str>) -> Vec<Vec<u16>> {
        let text = format!("listen: 127.0.0.1:80\nbackends: [{backends}]\n");
        let plan = parse(&text, "test.yaml", Format::Yaml, &|_| None).expect("a good one").plan;
        let numbers = |tier: Vec<BackendId>| tier.iter().map(|id| id.0).collect();
        tiers(&plan.pools[0], zone).into_iter().map(numbers).collect()
    }

    const MIXED: &str = "{address: 10.0.0.1:80, priority: 1, zone: a}, \
        {address: 10.0.0.2:80, zone: b}, {address: 10.0.0.3:80, zone: a}, 10.0.0.4:80, \
        {address: 10.0.0.5:80, priority: 9, zone: b}";

    #[test]
    fn most_pools_have_one_tier() {
        assert_eq!(of("10.0.0.1:80, 10.0.0.2:80", None), [[0, 1]]);
        assert_eq!(of("10.0.0.1:80, 10.0.0.2:80", Some("a")), [[0, 1]]);
    }

    #[test]
    fn priority_comes_first_and_our_own_zone_within_it() {
        assert_eq!(of(MIXED, None), [vec![1, 2, 3], vec![0], vec![4]]);
        assert_eq!(of(MIXED, Some("a")), [vec![2], vec![1, 3], vec![0], vec![4]]);
        assert_eq!(of(MIXED, Some("b")), [vec![1], vec![2, 3], vec![0], vec![4]]);
    }
}
