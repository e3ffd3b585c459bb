//! One suite of laws, every poller. See `evenkeel::poller` for the laws themselves.
//!
//! A new poller gets a rig (`poller_laws/rig.rs`) and a line at the end of this file.

#[path = "simulation/actors.rs"]
#[allow(dead_code)]
mod actors;
#[path = "simulation/dice.rs"]
#[allow(dead_code)]
mod dice;
#[path = "simulation/faults.rs"]
#[allow(dead_code)]
mod faults;
#[path = "simulation/kernel.rs"]
#[allow(dead_code)]
mod kernel;
#[path = "poller_laws/laws.rs"]
mod laws;
#[path = "simulation/net.rs"]
#[allow(dead_code)]
mod net;
#[path = "simulation/oracle.rs"]
#[allow(dead_code)]
mod oracle;
#[path = "poller_laws/real.rs"]
mod real;
#[path = "poller_laws/rig.rs"]
mod rig;
#[path = "poller_laws/sim.rs"]
mod sim;
#[path = "simulation/store.rs"]
#[allow(dead_code)]
mod store;
#[path = "simulation/world.rs"]
#[allow(dead_code)]
mod world;

/// Every law for one rig.
macro_rules! laws {
    ($name:ident: $rig:ty) => {
        mod $name {
            laws!(@each $rig:
                law_1_every_operation_ends_once
                law_1_accepts_end_once_each
                law_1_unlisten_cancels_the_accept
                law_2_a_pull_waits_for_bytes
                law_2_bytes_and_fin_at_once_are_bytes_then_the_end
                law_2_last_is_told_only_of_the_last
                law_2_a_full_pipe_or_buffer_is_no_end
                law_3_a_released_parcel_is_back
                law_3_a_push_in_parts_gives_the_rest_back
                law_3_composed_bytes_go_out_like_others
                law_3_a_failed_push_takes_its_parcel_along
                law_3_without_a_pipe_a_buffer_does
                law_4_pulls_keep_the_order_of_bytes
                law_4_pushes_complete_in_order
                law_5_close_ends_the_others_first
                law_5_close_takes_a_parked_push_along
                law_5_a_graceful_close_still_delivers
                law_6_a_cancelled_pull_loses_no_byte
                law_6_a_cancelled_pull_ends_without_bytes
                law_6_a_cancelled_connect_hands_the_parcel_back
                law_6_a_cancel_may_come_too_late
                law_7_the_starved_are_served_in_order
                law_7_a_starved_pull_can_be_given_up
                law_7_compose_without_a_buffer_says_so
                law_8_a_deadline_is_kept
                law_8_another_thread_ends_the_wait
                connect_refused_hands_the_parcel_back
                connect_sends_the_first_parcel
                connect_may_send_a_part_of_the_first_parcel
                bytes_before_an_rst_can_be_pulled
                an_rst_is_never_taken_for_the_end
                a_parked_pull_hears_the_rst
                a_push_after_fin_and_rst_finds_it_closed
                a_half_closed_connection_goes_on
                a_push_parked_behind_a_fin_goes_on
                bytes_taken_in_ahead_are_pulled_in_order_by_either_lane
                bytes_taken_in_ahead_end_with_their_socket
                our_own_fin_leaves_the_other_direction
                closing_unread_bytes_resets
                the_condition_tells_of_bytes_not_taken
            );
        }
    };
    (@each $rig:ty: $($law:ident)*) => {
        $(#[test]
        fn $law() {
            if <$rig as crate::rig::Rig>::runs() {
                crate::laws::$law::<$rig>();
            }
        })*
    };
}

laws!(simulated: crate::sim::SimRig);
laws!(readiness: crate::real::RealRig<crate::real::Mio>);
#[cfg(target_os = "linux")]
laws!(uring: crate::real::RealRig<crate::real::BestRing>);
#[cfg(target_os = "linux")]
laws!(uring_cramped: crate::real::RealRig<crate::real::CrampedRing>);
#[cfg(target_os = "linux")]
laws!(uring_of_old: crate::real::RealRig<crate::real::OldRing>);
