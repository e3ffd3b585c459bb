//! Connections handed from the worker that accepted them to one with less to do: two real workers,
//! and a listener that only one of them has.

mod support;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;

use evenkeel::config::{Format, parse};
use evenkeel::net::{Address, Listener};
use evenkeel::poller::Poller;
use evenkeel::poller::readiness::{Readiness, Settings};
use evenkeel::pool::Board;
use evenkeel::worker::admission::Admission;
use evenkeel::worker::crew::Crew;
use evenkeel::worker::stats::Stats;
use evenkeel::worker::{Command, Setup, Turn, Worker};

use support::clock::{SOON, until};
use support::folder::Folder;
use support::peers::{Backend, End, Family, Peer, Place};
use support::proxy::Target;

const CLIENTS: usize = 200;

#[test]
fn a_worker_that_has_everything_shares_it_over_epoll_or_kqueue() {
    shares(|| Readiness::new(Settings::default()).expect("there is an event queue"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_worker_that_has_everything_shares_it_over_io_uring() {
    use evenkeel::poller::uring::{Peers, Uring, available};

    if let Err(error) = available() {
        eprintln!("NOT RUN: no io_uring here: {error}");
        return;
    }
    shares(|| Uring::open(Settings::default(), Peers::Told).expect("there is a ring"));
}

fn address(place: &Place) -> Address {
    match place {
        Place::Ip(address) => Address::Ip(*address),
        Place::Unix(path) => Address::Unix(path.clone()),
    }
}

fn shares<P>(make: impl Fn() -> P)
where
    P: Poller<Listener = Listener> + Send + 'static,
{
    let folder = Folder::new();
    let backend = Backend::echo(Family::V4, &folder);
    let place = Place::free(Family::V4, &folder);
    let text = format!("listen: \"{place}\"\nbackends: [\"{}\"]\n", backend.address());
    let plan = parse(&text, "test.yaml", Format::Yaml, &|_| None).expect("it is valid").plan;
    let plan = Arc::new(plan);
    let board = Arc::new(Board::new(&plan));
    let crew = Arc::new(Crew::new(2));
    let admission = Arc::new(Admission::new(1000));
    let stats = [(); 2].map(|()| Arc::new(Stats::default()));
    let (mut wakers, mut commands, mut threads) = (Vec::new(), Vec::new(), Vec::new());
    let mut listener = Some(Listener::bind(&address(&place), 512).expect("it is free"));
    let workers: Vec<_> = (0..2)
        .map(|index| {
            let (sender, receiver) = bounded(4);
            commands.push(sender);
            let setup = Setup {
                plan: Arc::clone(&plan),
                board: Arc::clone(&board),
                resolved: Arc::new(vec![vec![None]]),
                listeners: listener.take().into_iter().map(|listener| (0, listener)).collect(),
                admission: Arc::clone(&admission),
                listener_admissions: vec![None],
                commands: receiver,
                notices: bounded(0).0,
                recorder: None,
                stats: Arc::clone(&stats[index]),
                index,
                crew: Arc::clone(&crew),
                seed: 7,
            };
            let worker = Worker::new(make(), setup).expect("it listens");
            wakers.push(worker.waker());
            worker
        })
        .collect();
    admission.notify(wakers.clone());
    crew.notify(wakers.clone());
    for mut worker in workers {
        threads.push(thread::spawn(move || {
            while worker.turn().expect("the queue works") == Turn::Running {}
        }));
    }

    let clients: Vec<Peer> = (0..CLIENTS).map(|_| Peer::connect(&place)).collect();
    clients.iter().for_each(|client| client.round_trip(b"wherever you are"));
    let loads = [crew.load(0), crew.load(1)];
    assert_eq!(loads[0] + loads[1], CLIENTS as u32);
    // One more than the slack: the last to come may have been kept.
    assert!(loads[0] - loads[1] <= 8 + loads[1] / 8 + 1, "{loads:?}");
    assert_eq!(stats[0].handed_over.read(), u64::from(loads[1]), "{loads:?}");
    assert_eq!(stats[1].accepted.read(), u64::from(loads[1]), "{loads:?}");

    // Whoever was handed over is drained like everybody else.
    for (sender, waker) in commands.iter().zip(&wakers) {
        sender.send(Command::Drain(Duration::from_secs(60))).expect("it lives");
        waker.wake();
    }
    for client in &clients {
        client.round_trip(b"still there");
        client.finish();
        assert_eq!(client.end(), End::Finished);
    }
    threads.into_iter().for_each(|thread| thread.join().expect("it ends in peace"));
    assert_eq!([crew.load(0), crew.load(1)], [0, 0]);
    until("no place to be taken", SOON, || (admission.open() == 0).then_some(()));
}
