//! The laws, each as tests over any [`Rig`]. The numbers are those of `evenkeel::poller`.

use std::time::Duration;

use evenkeel::poller::{Op, Outcome, Poller};
use evenkeel::transfer::{Failure, Lane, Manner, Parcel, SocketId};

use crate::rig::{Bench, Heard, KINDS, Kind, Rig, connect, pattern};

pub const LANES: [Lane; 2] = [Lane::Buffer, Lane::Pipe];

fn pulled(outcome: Outcome) -> Parcel {
    match outcome {
        Outcome::Pulled { parcel, .. } => parcel,
        other => panic!("pull ended {other:?}"),
    }
}

/// Pulls so many bytes.
fn drain<R: Rig>(bench: &mut Bench<R>, from: SocketId, lane: Lane, bytes: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < bytes {
        let parcel = pulled(bench.run(Op::Pull { from, lane }));
        all.extend(bench.contents(parcel));
    }
    all
}

// Law 1: one outcome each.

pub fn law_1_every_operation_ends_once<R: Rig>() {
    for kind in KINDS {
        for lane in LANES {
            let mut bench = Bench::<R>::new();
            let (client, alice) = bench.accepted(kind);
            let (backend, bob) = bench.connected(kind);
            bench.send(alice, b"hello");
            let parcel = pulled(bench.run(Op::Pull { from: client, lane }));
            assert_eq!(parcel.len().get(), 5);
            bench.push_all(backend, parcel);
            assert_eq!(bench.hear(bob, 5), b"hello");
            let outcome = bench.run(Op::ShutdownWrite { socket: backend });
            assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
            assert_eq!(bench.hear_end(bob), Heard::Finished);
            bench.shut(client);
            bench.shut(backend);
            for _ in 0..5 {
                bench.turn();
            }
            bench.rest(0);
        }
    }
}

pub fn law_1_accepts_end_once_each<R: Rig>() {
    for kind in KINDS {
        let mut bench = Bench::<R>::new();
        let listener = bench.rig.listen(kind);
        let tokens = [0, 1, 2].map(|_| bench.start(Op::Accept { listener, room: u32::MAX }));
        for _ in 0..3 {
            bench.rig.knock(listener);
        }
        let sockets = tokens.map(|token| match bench.outcome(token) {
            Outcome::Accepted { socket, .. } => socket,
            other => panic!("accept ended {other:?}"),
        });
        for socket in sockets {
            bench.shut(socket);
        }
        bench.rest(0);
    }
}

pub fn law_1_unlisten_cancels_the_accept<R: Rig>() {
    let mut bench = Bench::<R>::new();
    let listener = bench.rig.listen(Kind::Tcp);
    let token = bench.start(Op::Accept { listener, room: u32::MAX });
    bench.rig.poller().unlisten(listener);
    let outcome = bench.outcome(token);
    assert!(matches!(outcome, Outcome::Cancelled), "{outcome:?}");
    bench.rest(0);
}

// Law 2: parcels are never empty, and nothing ever "would block".

pub fn law_2_a_pull_waits_for_bytes<R: Rig>() {
    for kind in KINDS {
        for lane in LANES {
            let mut bench = Bench::<R>::new();
            let (socket, hand) = bench.accepted(kind);
            let token = bench.start(Op::Pull { from: socket, lane });
            assert!(bench.still_flying(token), "a pull of nothing ended");
            bench.send(hand, b"x");
            let parcel = pulled(bench.outcome(token));
            assert_eq!(bench.contents(parcel), b"x");
            // Once more, after the first edge was used up.
            let token = bench.start(Op::Pull { from: socket, lane });
            assert!(bench.still_flying(token), "a pull of nothing ended");
            bench.rig.finish(hand);
            let outcome = bench.outcome(token);
            assert!(matches!(outcome, Outcome::Ended), "{outcome:?}");
            bench.shut(socket);
            bench.rest(0);
        }
    }
}

pub fn law_2_bytes_and_fin_at_once_are_bytes_then_the_end<R: Rig>() {
    for kind in KINDS {
        for lane in LANES {
            let mut bench = Bench::<R>::new();
            let (socket, hand) = bench.accepted(kind);
            bench.send(hand, b"last words");
            bench.rig.finish(hand);
            for _ in 0..3 {
                bench.turn();
            }
            assert_eq!(drain(&mut bench, socket, lane, 10), b"last words");
            for _ in 0..2 {
                let outcome = bench.run(Op::Pull { from: socket, lane });
                assert!(matches!(outcome, Outcome::Ended), "{outcome:?}");
            }
            bench.shut(socket);
            bench.rest(0);
        }
    }
}

pub fn law_2_last_is_told_only_of_the_last<R: Rig>() {
    for lane in LANES {
        let mut bench = Bench::<R>::new();
        let (socket, hand) = bench.accepted(Kind::Tcp);
        let bytes = pattern(60_000);
        bench.send(hand, &bytes);
        bench.rig.finish(hand);
        let mut all = Vec::new();
        loop {
            match bench.run(Op::Pull { from: socket, lane }) {
                Outcome::Pulled { parcel, last } => {
                    all.extend(bench.contents(parcel));
                    assert!(!last || all.len() == bytes.len(), "last after {}", all.len());
                }
                Outcome::Ended => break,
                other => panic!("pull ended {other:?}"),
            }
        }
        assert!(all == bytes, "the bytes differ");
        bench.shut(socket);
        bench.rest(0);
    }
}

pub fn law_2_a_full_pipe_or_buffer_is_no_end<R: Rig>() {
    for lane in LANES {
        let mut bench = Bench::<R>::new();
        let (socket, hand) = bench.accepted(Kind::Tcp);
        let bytes = pattern(2_000_000);
        let (mut sent, mut all) = (0, Vec::new());
        while all.len() < bytes.len() {
            sent += bench.rig.send(hand, &bytes[sent..]);
            let parcel = pulled(bench.run(Op::Pull { from: socket, lane }));
            if lane == Lane::Pipe && all.is_empty() {
                assert_eq!(parcel.lane(), Lane::Pipe);
            }
            all.extend(bench.contents(parcel));
        }
        assert!(all == bytes, "the bytes differ");
        bench.rig.finish(hand);
        assert!(matches!(bench.run(Op::Pull { from: socket, lane }), Outcome::Ended));
        bench.shut(socket);
        bench.rest(0);
    }
}

// Law 3: parcels are conserved.

pub fn law_3_a_released_parcel_is_back<R: Rig>() {
    for lane in LANES {
        let mut bench = Bench::<R>::new();
        let (socket, hand) = bench.accepted(Kind::Tcp);
        for _ in 0..40 {
            bench.send(hand, &pattern(300));
            let parcel = pulled(bench.run(Op::Pull { from: socket, lane }));
            assert_eq!(bench.rig.poller().gauges().parcels, 1);
            bench.rig.poller().release(parcel);
            assert_eq!(bench.rig.poller().gauges().parcels, 0);
        }
        bench.shut(socket);
        bench.rest(0);
    }
}

pub fn law_3_a_push_in_parts_gives_the_rest_back<R: Rig>() {
    for kind in KINDS {
        for lane in LANES {
            let mut bench = Bench::<R>::new();
            let (client, alice) = bench.accepted(kind);
            let (backend, bob) = bench.connected(kind);
            let bytes = pattern(1_500_000);
            let (mut sent, mut heard) = (0, Vec::new());
            let mut pull = Some(bench.start(Op::Pull { from: client, lane }));
            let mut push = None;
            bench.until("all of it", |bench| {
                sent += bench.rig.send(alice, &bytes[sent..]);
                if let Some(outcome) = pull.and_then(|token| bench.outcome_now(token)) {
                    pull = None;
                    let parcel = pulled(outcome);
                    push = Some(bench.start(Op::Push { to: backend, parcel, last: false }));
                }
                if let Some(outcome) = push.and_then(|token| bench.outcome_now(token)) {
                    let Outcome::Pushed(sent) = outcome else { panic!("push ended {outcome:?}") };
                    push = sent
                        .rest
                        .map(|parcel| bench.start(Op::Push { to: backend, parcel, last: false }));
                    if push.is_none() {
                        pull = Some(bench.start(Op::Pull { from: client, lane }));
                    }
                }
                // A slow reader: parcels do not fit whole.
                if let Heard::Bytes(more) = bench.rig.read(bob, 20_000) {
                    heard.extend(more);
                }
                (heard.len() == bytes.len()).then_some(())
            });
            assert!(heard == bytes, "the bytes differ");
            bench.rig.finish(alice);
            let outcome = bench.outcome(pull.expect("the last push was whole"));
            assert!(matches!(outcome, Outcome::Ended), "{outcome:?}");
            bench.shut(client);
            bench.shut(backend);
            bench.rest(0);
        }
    }
}

pub fn law_3_composed_bytes_go_out_like_others<R: Rig>() {
    let mut bench = Bench::<R>::new();
    let (socket, hand) = bench.accepted(Kind::Tcp);
    assert!(bench.rig.poller().compose(b"").is_none());
    let parcel = bench.rig.poller().compose(b"PROXY").expect("a buffer is free");
    assert_eq!(bench.rig.poller().bytes(&parcel), Some(&b"PROXY"[..]));
    bench.push_all(socket, parcel);
    assert_eq!(bench.hear(hand, 5), b"PROXY");
    bench.shut(socket);
    bench.rest(0);
}

pub fn law_3_a_failed_push_takes_its_parcel_along<R: Rig>() {
    for lane in LANES {
        let mut bench = Bench::<R>::sized(4, 1);
        let (client, alice) = bench.accepted(Kind::Tcp);
        for round in 0..6u8 {
            let (backend, bob) = bench.connected(Kind::Tcp);
            bench.send(alice, &[round; 700]);
            let parcel = pulled(bench.run(Op::Pull { from: client, lane }));
            assert_eq!(parcel.lane(), lane, "the pipe came back from the last round");
            bench.rig.reset(bob);
            bench.until("the RST", |bench| bench.rig.poller().condition(backend).broken);
            let outcome = bench.run(Op::Push { to: backend, parcel, last: false });
            assert!(matches!(outcome, Outcome::Failed(Failure::Reset)), "{outcome:?}");
            bench.shut(backend);
            // What comes next has only fresh bytes in it.
            bench.send(alice, &[100 + round; 50]);
            let parcel = pulled(bench.run(Op::Pull { from: client, lane }));
            assert_eq!(bench.contents(parcel), [100 + round; 50]);
        }
        bench.shut(client);
        bench.rest(0);
    }
}

pub fn law_3_without_a_pipe_a_buffer_does<R: Rig>() {
    let mut bench = Bench::<R>::sized(4, 0);
    let (socket, hand) = bench.accepted(Kind::Tcp);
    bench.send(hand, b"no pipe");
    let parcel = pulled(bench.run(Op::Pull { from: socket, lane: Lane::Pipe }));
    assert_eq!(parcel.lane(), Lane::Buffer);
    assert_eq!(bench.contents(parcel), b"no pipe");
    bench.shut(socket);
    bench.rest(0);
}

// Law 4: order per socket and direction.

pub fn law_4_pulls_keep_the_order_of_bytes<R: Rig>() {
    for kind in KINDS {
        let mut bench = Bench::<R>::new();
        let (socket, hand) = bench.accepted(kind);
        let bytes = pattern(50_000);
        bench.send(hand, &bytes);
        let mut all = Vec::new();
        // One pull at a time, whichever the lane.
        for lane in LANES.into_iter().cycle() {
            let parcel = pulled(bench.run(Op::Pull { from: socket, lane }));
            all.extend(bench.contents(parcel));
            if all.len() == bytes.len() {
                break;
            }
        }
        assert!(all == bytes, "the bytes differ");
        bench.shut(socket);
        bench.rest(0);
    }
}

pub fn law_4_pushes_complete_in_order<R: Rig>() {
    let mut bench = Bench::<R>::new();
    let (socket, hand) = bench.accepted(Kind::Tcp);
    let tokens = [b"one ", b"two ", b"last"].map(|words| {
        let parcel = bench.rig.poller().compose(words).expect("a buffer is free");
        bench.start(Op::Push { to: socket, parcel, last: false })
    });
    for _ in 0..5 {
        bench.turn();
    }
    let told: Vec<_> = bench.story().iter().map(|completion| completion.token).collect();
    assert_eq!(told, tokens, "in this order");
    bench.story().clear();
    assert_eq!(bench.hear(hand, 12), b"one two last");
    bench.shut(socket);
    bench.rest(0);
}

// Law 5: close comes last.

pub fn law_5_close_ends_the_others_first<R: Rig>() {
    for manner in [Manner::Graceful, Manner::Reset] {
        let mut bench = Bench::<R>::new();
        let (socket, hand) = bench.accepted(Kind::Tcp);
        let pull = bench.start(Op::Pull { from: socket, lane: Lane::Buffer });
        bench.turn();
        let close = bench.start(Op::Close { socket, manner });
        bench.until("the close", |bench| {
            bench.story().iter().any(|completion| completion.token == close).then_some(())
        });
        let told: Vec<_> = bench.story().iter().map(|completion| completion.token).collect();
        assert_eq!(told, [pull, close], "the close comes last");
        assert!(matches!(bench.outcome(pull), Outcome::Cancelled));
        assert!(matches!(bench.outcome(close), Outcome::Done));
        let expected = if manner == Manner::Reset { Heard::Reset } else { Heard::Finished };
        assert_eq!(bench.hear_end(hand), expected);
        bench.rest(0);
    }
}

pub fn law_5_close_takes_a_parked_push_along<R: Rig>() {
    for lane in LANES {
        let mut bench = Bench::<R>::new();
        let (client, alice) = bench.accepted(Kind::Tcp);
        let (backend, _bob) = bench.connected(Kind::Tcp);
        // Until the kernel takes no more.
        let bytes = pattern(100_000);
        let push = loop {
            bench.rig.send(alice, &bytes);
            let parcel = pulled(bench.run(Op::Pull { from: client, lane }));
            let push = bench.start(Op::Push { to: backend, parcel, last: false });
            match bench.outcome_now(push) {
                Some(Outcome::Pushed(sent)) => {
                    if let Some(rest) = sent.rest {
                        bench.rig.poller().release(rest);
                    }
                }
                Some(other) => panic!("push ended {other:?}"),
                None if bench.still_flying(push) => break push,
                None => {
                    if let Outcome::Pushed(sent) = bench.outcome(push)
                        && let Some(rest) = sent.rest
                    {
                        bench.rig.poller().release(rest);
                    }
                }
            }
        };
        let close = bench.start(Op::Close { socket: backend, manner: Manner::Reset });
        assert!(matches!(bench.outcome(push), Outcome::Cancelled));
        assert!(matches!(bench.outcome(close), Outcome::Done));
        assert_eq!(bench.rig.poller().gauges().parcels, 0);
        bench.shut(client);
        bench.rest(0);
    }
}

pub fn law_5_a_graceful_close_still_delivers<R: Rig>() {
    for kind in KINDS {
        let mut bench = Bench::<R>::new();
        let (socket, hand) = bench.accepted(kind);
        let bytes = pattern(5000);
        let parcel = bench.rig.poller().compose(&bytes).expect("a buffer is free");
        bench.push_all(socket, parcel);
        bench.shut(socket);
        assert_eq!(bench.hear(hand, 5000), bytes);
        assert_eq!(bench.hear_end(hand), Heard::Finished);
        bench.rest(0);
    }
}

// Law 6: cancel is a request.

pub fn law_6_a_cancelled_pull_loses_no_byte<R: Rig>() {
    for lane in LANES {
        let mut bench = Bench::<R>::new();
        let (socket, hand) = bench.accepted(Kind::Tcp);
        for round in 0..20u8 {
            let token = bench.start(Op::Pull { from: socket, lane });
            bench.send(hand, &[round; 20]);
            if round % 2 == 0 {
                bench.turn();
            }
            bench.rig.poller().cancel(token);
            let mut all = match bench.outcome(token) {
                Outcome::Cancelled => Vec::new(),
                other => {
                    let parcel = pulled(other);
                    bench.contents(parcel)
                }
            };
            let left = 20 - all.len();
            all.extend(drain(&mut bench, socket, lane, left));
            assert_eq!(all, [round; 20]);
        }
        bench.shut(socket);
        bench.rest(0);
    }
}

pub fn law_6_a_cancelled_pull_ends_without_bytes<R: Rig>() {
    for lane in LANES {
        let mut bench = Bench::<R>::new();
        let (socket, _hand) = bench.accepted(Kind::Tcp);
        let token = bench.start(Op::Pull { from: socket, lane });
        bench.turn();
        bench.rig.poller().cancel(token);
        assert!(matches!(bench.outcome(token), Outcome::Cancelled));
        // A cancel of what is over does nothing.
        bench.rig.poller().cancel(token);
        bench.turn();
        bench.shut(socket);
        bench.rest(0);
    }
}

pub fn law_6_a_cancelled_connect_hands_the_parcel_back<R: Rig>() {
    let mut bench = Bench::<R>::new();
    let Some(to) = bench.rig.black_hole() else { return };
    let first = bench.rig.poller().compose(b"hello").expect("a buffer is free");
    let token = bench.start(connect(&to, Some(first)));
    assert!(bench.still_flying(token));
    assert_eq!(bench.rig.poller().gauges().sockets, 1);
    bench.rig.poller().cancel(token);
    match bench.outcome(token) {
        Outcome::NotConnected { failure: None, first: Some(first) } => {
            assert_eq!(bench.rig.poller().bytes(&first), Some(&b"hello"[..]));
            bench.rig.poller().release(first);
        }
        other => panic!("connect ended {other:?}"),
    }
    bench.rest(0);
}

pub fn law_6_a_cancel_may_come_too_late<R: Rig>() {
    for kind in KINDS {
        let mut bench = Bench::<R>::new();
        let to = bench.rig.target(kind);
        let first = bench.rig.poller().compose(b"hello").expect("a buffer is free");
        let token = bench.start(connect(&to, Some(first)));
        bench.rig.poller().cancel(token);
        match bench.outcome(token) {
            Outcome::NotConnected { failure: None, first: Some(first) } => {
                bench.rig.poller().release(first);
            }
            Outcome::Connected { socket, first: Some(sent) } => {
                if let Some(rest) = sent.rest {
                    bench.rig.poller().release(rest);
                }
                bench.shut(socket);
            }
            other => panic!("connect ended {other:?}"),
        }
        bench.rest(0);
    }
}

// Law 7: out of buffers is not an error.

pub fn law_7_the_starved_are_served_in_order<R: Rig>() {
    let mut bench = Bench::<R>::sized(1, 0);
    let (holder, hand) = bench.accepted(Kind::Tcp);
    bench.send(hand, b"holder");
    let held = pulled(bench.run(Op::Pull { from: holder, lane: Lane::Buffer }));
    let mut waiting = Vec::new();
    for name in [b"1st", b"2nd", b"3rd"] {
        let (socket, hand) = bench.accepted(Kind::Tcp);
        bench.send(hand, name);
        let token = bench.start(Op::Pull { from: socket, lane: Lane::Buffer });
        assert!(bench.still_flying(token), "there was no buffer for it");
        waiting.push((socket, token, name));
    }
    let gauges = bench.rig.poller().gauges();
    assert_eq!((gauges.buffers, gauges.starved), (1, 3), "{gauges:?}");
    let mut parcel = held;
    for (socket, token, name) in waiting {
        bench.rig.poller().release(parcel);
        parcel = pulled(bench.outcome(token));
        assert_eq!(bench.rig.poller().bytes(&parcel), Some(&name[..]), "served out of order");
        assert!(bench.story().is_empty(), "somebody jumped the queue");
        bench.shut(socket);
    }
    bench.rig.poller().release(parcel);
    bench.shut(holder);
    bench.rest(0);
}

pub fn law_7_a_starved_pull_can_be_given_up<R: Rig>() {
    let mut bench = Bench::<R>::sized(1, 0);
    let (holder, hand) = bench.accepted(Kind::Tcp);
    bench.send(hand, b"holder");
    let held = pulled(bench.run(Op::Pull { from: holder, lane: Lane::Buffer }));
    let sockets = [(); 3].map(|()| {
        let (socket, hand) = bench.accepted(Kind::Tcp);
        bench.send(hand, b"hungry");
        let token = bench.start(Op::Pull { from: socket, lane: Lane::Buffer });
        assert!(bench.still_flying(token));
        (socket, token)
    });
    bench.rig.poller().cancel(sockets[0].1);
    assert!(matches!(bench.outcome(sockets[0].1), Outcome::Cancelled));
    bench.shut(sockets[1].0);
    assert!(matches!(bench.outcome(sockets[1].1), Outcome::Cancelled));
    bench.rig.poller().release(held);
    let parcel = pulled(bench.outcome(sockets[2].1));
    bench.rig.poller().release(parcel);
    for socket in [holder, sockets[0].0, sockets[2].0] {
        bench.shut(socket);
    }
    bench.rest(0);
}

pub fn law_7_compose_without_a_buffer_says_so<R: Rig>() {
    let mut bench = Bench::<R>::sized(1, 0);
    let first = bench.rig.poller().compose(b"one").expect("a buffer is free");
    assert!(bench.rig.poller().compose(b"two").is_none());
    bench.rig.poller().release(first);
    let second = bench.rig.poller().compose(b"two").expect("it came back");
    bench.rig.poller().release(second);
    bench.rest(0);
}

// Law 8: time.

pub fn law_8_a_deadline_is_kept<R: Rig>() {
    let mut bench = Bench::<R>::new();
    let mut now = bench.rig.poller().wait(Some(evenkeel::time::Moment::ZERO)).expect("it waits");
    for step in [0, 1, 20] {
        let deadline = now + Duration::from_millis(step);
        let mut turns = 0;
        while now < deadline {
            let then = bench.rig.poller().wait(Some(deadline)).expect("it waits");
            assert!(then >= now, "time ran backwards");
            now = then;
            turns += 1;
            assert!(turns < 100, "it waits in tiny steps");
        }
    }
    bench.rest(0);
}

pub fn law_8_another_thread_ends_the_wait<R: Rig>() {
    let mut bench = Bench::<R>::new();
    let waker = bench.rig.poller().waker();
    // One that comes early is not lost.
    waker.wake();
    bench.rig.poller().wait(None).expect("it waits");
    let thread = std::thread::spawn(move || waker.wake());
    bench.rig.poller().wait(None).expect("it waits");
    thread.join().expect("it only wakes");
    bench.rest(0);
}

// Connecting.

pub fn connect_refused_hands_the_parcel_back<R: Rig>() {
    for kind in KINDS {
        for with in [false, true] {
            let mut bench = Bench::<R>::new();
            let to = bench.rig.nobody(kind);
            let first = with.then(|| bench.rig.poller().compose(b"hello").expect("a buffer"));
            match bench.run(connect(&to, first)) {
                Outcome::NotConnected { failure: Some(Failure::Refused), first } => {
                    assert_eq!(first.is_some(), with);
                    if let Some(first) = first {
                        assert_eq!(bench.rig.poller().bytes(&first), Some(&b"hello"[..]));
                        bench.rig.poller().release(first);
                    }
                }
                other => panic!("connect ended {other:?}"),
            }
            bench.rest(0);
        }
    }
}

pub fn connect_sends_the_first_parcel<R: Rig>() {
    for kind in KINDS {
        for lane in LANES {
            let mut bench = Bench::<R>::new();
            let (client, alice) = bench.accepted(kind);
            bench.send(alice, b"early");
            let first = pulled(bench.run(Op::Pull { from: client, lane }));
            let to = bench.rig.target(kind);
            let Outcome::Connected { socket, first: Some(sent) } =
                bench.run(connect(&to, Some(first)))
            else {
                panic!("it did not connect")
            };
            if let Some(rest) = sent.rest {
                bench.push_all(socket, rest);
            }
            let bob = bench.until("the other end", |bench| bench.rig.taken(&to));
            assert_eq!(bench.hear(bob, 5), b"early");
            bench.shut(client);
            bench.shut(socket);
            bench.rest(0);
        }
    }
}

pub fn connect_may_send_a_part_of_the_first_parcel<R: Rig>() {
    let mut bench = Bench::<R>::new();
    let (client, alice) = bench.accepted(Kind::Tcp);
    let bytes = pattern(16_000);
    bench.send(alice, &bytes);
    for _ in 0..3 {
        bench.turn();
    }
    let first = pulled(bench.run(Op::Pull { from: client, lane: Lane::Buffer }));
    let len = first.len().get();
    let to = bench.rig.target(Kind::Tcp);
    let Outcome::Connected { socket, first: Some(sent) } = bench.run(connect(&to, Some(first)))
    else {
        panic!("it did not connect")
    };
    let rest = sent.rest.as_ref().map_or(0, |rest| rest.len().get());
    assert_eq!(sent.bytes.get() + rest, len, "some bytes went nowhere");
    if let Some(rest) = sent.rest {
        bench.push_all(socket, rest);
    }
    let bob = bench.until("the other end", |bench| bench.rig.taken(&to));
    assert_eq!(bench.hear(bob, len as usize), bytes[..len as usize]);
    bench.shut(client);
    bench.shut(socket);
    bench.rest(0);
}

// How connections end.

pub fn bytes_before_an_rst_can_be_pulled<R: Rig>() {
    for lane in LANES {
        let mut bench = Bench::<R>::new();
        let (socket, hand) = bench.accepted(Kind::Tcp);
        bench.send(hand, b"before the RST");
        // They must have been received before the RST comes.
        for _ in 0..3 {
            bench.turn();
        }
        bench.rig.reset(hand);
        bench.until("the RST", |bench| bench.rig.poller().condition(socket).broken);
        assert_eq!(drain(&mut bench, socket, lane, 14), b"before the RST");
        let outcome = bench.run(Op::Pull { from: socket, lane });
        assert!(matches!(outcome, Outcome::Failed(Failure::Reset)), "{outcome:?}");
        bench.shut(socket);
        bench.rest(0);
    }
}

pub fn an_rst_is_never_taken_for_the_end<R: Rig>() {
    for lane in LANES {
        let mut bench = Bench::<R>::new();
        let (socket, hand) = bench.accepted(Kind::Tcp);
        bench.rig.reset(hand);
        bench.until("the RST", |bench| bench.rig.poller().condition(socket).broken);
        // The push hears of it and uses the kernel's error up (tcp_sendmsg, sk_stream_error) ...
        let parcel = bench.rig.poller().compose(b"too late").expect("a buffer is free");
        let outcome = bench.run(Op::Push { to: socket, parcel, last: false });
        assert!(matches!(outcome, Outcome::Failed(Failure::Reset)), "{outcome:?}");
        let parcel = bench.rig.poller().compose(b"too late").expect("a buffer is free");
        let outcome = bench.run(Op::Push { to: socket, parcel, last: false });
        assert!(
            matches!(outcome, Outcome::Failed(Failure::Reset | Failure::Closed)),
            "{outcome:?}"
        );
        // ... and still a pull must not say that the peer had finished.
        let outcome = bench.run(Op::Pull { from: socket, lane });
        assert!(matches!(outcome, Outcome::Failed(Failure::Reset)), "{outcome:?}");
        bench.shut(socket);
        bench.rest(0);
    }
}

pub fn a_parked_pull_hears_the_rst<R: Rig>() {
    for lane in LANES {
        let mut bench = Bench::<R>::new();
        let (socket, hand) = bench.accepted(Kind::Tcp);
        let token = bench.start(Op::Pull { from: socket, lane });
        bench.turn();
        bench.rig.reset(hand);
        let outcome = bench.outcome(token);
        assert!(matches!(outcome, Outcome::Failed(Failure::Reset)), "{outcome:?}");
        bench.shut(socket);
        bench.rest(0);
    }
}

pub fn a_push_after_fin_and_rst_finds_it_closed<R: Rig>() {
    let mut bench = Bench::<R>::new();
    let (socket, hand) = bench.accepted(Kind::Tcp);
    bench.rig.close(hand);
    let outcome = bench.run(Op::Pull { from: socket, lane: Lane::Buffer });
    assert!(matches!(outcome, Outcome::Ended), "{outcome:?}");
    // The first bytes provoke the RST, the next find it.
    let failure = bench.until("the RST", |bench| {
        let parcel = bench.rig.poller().compose(b"anybody there?").expect("a buffer is free");
        match bench.run(Op::Push { to: socket, parcel, last: false }) {
            Outcome::Pushed(_) => None,
            Outcome::Failed(failure) => Some(failure),
            other => panic!("push ended {other:?}"),
        }
    });
    assert_eq!(failure, Failure::Closed);
    let outcome = bench.run(Op::Pull { from: socket, lane: Lane::Buffer });
    assert!(matches!(outcome, Outcome::Ended), "{outcome:?}");
    bench.shut(socket);
    bench.rest(0);
}

pub fn a_half_closed_connection_goes_on<R: Rig>() {
    for kind in KINDS {
        for lane in LANES {
            let mut bench = Bench::<R>::new();
            let (socket, hand) = bench.accepted(kind);
            bench.rig.finish(hand);
            assert!(matches!(bench.run(Op::Pull { from: socket, lane }), Outcome::Ended));
            let parcel = bench.rig.poller().compose(b"still here").expect("a buffer is free");
            bench.push_all(socket, parcel);
            assert_eq!(bench.hear(hand, 10), b"still here");
            assert!(matches!(bench.run(Op::ShutdownWrite { socket }), Outcome::Done));
            assert_eq!(bench.hear_end(hand), Heard::Finished);
            bench.shut(socket);
            bench.rest(0);
        }
    }
}

/// A watch for room that tells of the peer's FIN must not be used up by that.
pub fn a_push_parked_behind_a_fin_goes_on<R: Rig>() {
    for kind in KINDS {
        let mut bench = Bench::<R>::new();
        let (socket, hand) = bench.accepted(kind);
        bench.rig.finish(hand);
        let ended = bench.run(Op::Pull { from: socket, lane: Lane::Buffer });
        assert!(matches!(ended, Outcome::Ended));
        let chunk = pattern(8192);
        let mut whole = 0;
        let parked = loop {
            let parcel = bench.rig.poller().compose(&chunk).expect("a buffer is free");
            let token = bench.start(Op::Push { to: socket, parcel, last: false });
            (0..3).for_each(|_| bench.turn());
            match bench.outcome_now(token) {
                Some(Outcome::Pushed(sent)) => {
                    whole += sent.bytes.get() as usize;
                    if let Some(rest) = sent.rest {
                        break bench.start(Op::Push { to: socket, parcel: rest, last: false });
                    }
                }
                Some(other) => panic!("a push ended {other:?}"),
                None => break token,
            }
        };
        assert!(bench.still_flying(parked), "nobody reads");
        bench.hear(hand, whole);
        let Outcome::Pushed(sent) = bench.outcome(parked) else { panic!("there is room again") };
        if let Some(rest) = sent.rest {
            bench.push_all(socket, rest);
        }
        bench.shut(socket);
        bench.rest(0);
    }
}

/// A poller may take bytes in before they are pulled; it must keep them for the lane that is asked for,
/// in order, and be held back by a reader that does not pull.
pub fn bytes_taken_in_ahead_are_pulled_in_order_by_either_lane<R: Rig>() {
    let mut bench = Bench::<R>::new();
    let (socket, hand) = bench.connected(Kind::Tcp);
    let bytes = pattern(600);
    let mut got = Vec::new();
    for (at, chunk) in bytes.chunks(100).enumerate() {
        // Parked first, so that a poller that would rather receive by itself does.
        let lane = LANES[at / 2 % 2];
        let pull = bench.start(Op::Pull { from: socket, lane });
        (0..3).for_each(|_| bench.turn());
        assert!(bench.still_flying(pull), "nothing was sent yet");
        bench.send(hand, chunk);
        let Outcome::Pulled { parcel, .. } = bench.outcome(pull) else { panic!("bytes came") };
        got.extend(bench.contents(parcel));
        while got.len() < (at + 1) * 100 {
            got.extend(drain(&mut bench, socket, lane, (at + 1) * 100 - got.len()));
        }
    }
    assert!(got == bytes, "in order");

    // Nobody pulls: what the sender can get rid of is bounded.
    let mut sent = 0;
    for _ in 0..200 {
        sent += bench.rig.send(hand, &pattern(64 * 1024));
        bench.turn();
    }
    let all: Vec<u8> = drain(&mut bench, socket, Lane::Buffer, sent);
    assert_eq!(all.len(), sent, "not a byte was lost");
    bench.rig.finish(hand);
    assert!(matches!(bench.run(Op::Pull { from: socket, lane: Lane::Buffer }), Outcome::Ended));
    bench.shut(socket);
    bench.rest(0);
}

/// Closed with bytes taken in and not pulled, and with an RST behind them.
pub fn bytes_taken_in_ahead_end_with_their_socket<R: Rig>() {
    for reset in [false, true] {
        let mut bench = Bench::<R>::new();
        let (socket, hand) = bench.connected(Kind::Tcp);
        for _ in 0..3 {
            let pull = bench.start(Op::Pull { from: socket, lane: Lane::Buffer });
            (0..3).for_each(|_| bench.turn());
            bench.send(hand, b"a question");
            let Outcome::Pulled { parcel, .. } = bench.outcome(pull) else { panic!("it came") };
            assert_eq!(bench.contents(parcel), b"a question");
        }
        let pull = bench.start(Op::Pull { from: socket, lane: Lane::Buffer });
        (0..3).for_each(|_| bench.turn());
        bench.rig.poller().cancel(pull);
        assert!(matches!(bench.outcome(pull), Outcome::Cancelled));
        bench.send(hand, b"nobody asked");
        (0..3).for_each(|_| bench.turn());
        if reset {
            bench.rig.reset(hand);
            (0..3).for_each(|_| bench.turn());
            assert_eq!(drain(&mut bench, socket, Lane::Buffer, 12), b"nobody asked");
            let end = bench.run(Op::Pull { from: socket, lane: Lane::Buffer });
            assert!(matches!(end, Outcome::Failed(Failure::Reset)), "{end:?}");
        }
        bench.shut(socket);
        bench.rest(0);
    }
}

pub fn our_own_fin_leaves_the_other_direction<R: Rig>() {
    for kind in KINDS {
        for lane in LANES {
            let mut bench = Bench::<R>::new();
            let (socket, hand) = bench.connected(kind);
            assert!(matches!(bench.run(Op::ShutdownWrite { socket }), Outcome::Done));
            assert_eq!(bench.hear_end(hand), Heard::Finished);
            bench.send(hand, b"a long reply");
            assert_eq!(drain(&mut bench, socket, lane, 12), b"a long reply");
            bench.rig.finish(hand);
            assert!(matches!(bench.run(Op::Pull { from: socket, lane }), Outcome::Ended));
            bench.shut(socket);
            bench.rest(0);
        }
    }
}

pub fn closing_unread_bytes_resets<R: Rig>() {
    let mut bench = Bench::<R>::new();
    let (socket, hand) = bench.accepted(Kind::Tcp);
    bench.send(hand, b"never read");
    for _ in 0..3 {
        bench.turn();
    }
    bench.shut(socket);
    assert_eq!(bench.hear_end(hand), Heard::Reset);
    bench.rest(0);
}

pub fn the_condition_tells_of_bytes_not_taken<R: Rig>() {
    let mut bench = Bench::<R>::new();
    let (socket, hand) = bench.accepted(Kind::Tcp);
    let calm = bench.rig.poller().condition(socket);
    assert_eq!((calm.broken, calm.unacknowledged.unwrap_or(0)), (None, 0));
    let parcel = bench.rig.poller().compose(b"hello").expect("a buffer is free");
    bench.push_all(socket, parcel);
    assert_eq!(bench.hear(hand, 5), b"hello");
    bench.until("the acknowledgement", |bench| {
        let left = bench.rig.poller().condition(socket).unacknowledged.unwrap_or(0);
        (left == 0).then_some(())
    });
    bench.shut(socket);
    bench.rest(0);
}
