//! evenkeel, a layer 4 TCP load balancer: one event loop per core, zero-copy forwarding, and TCP
//! passed on as TCP peers expect it.
//!
//! # Bird's eye
//!
//! ```text
//!   main ── cli ── commands            what the operator typed
//!     │
//!   server ◀── signals                 plan -> sockets -> threads -> drain -> join
//!     │ one thread each
//!   worker ──── session                actions and events of one connection, sans-IO
//!     │    └─── pool                   which backend; shared counts on a Board of atomics
//!   poller ◀── queue                   operations in, outcomes out; owns buffers and pipes;
//!              (epoll, kqueue, io_uring)   the queue tells when to attempt them
//! ```
//!
//! A [`worker`] owns everything on the path of a byte: its listening sockets (`SO_REUSEPORT`), its
//! [`poller`], sessions, buffers, pipes, timers and counters. Nothing is shared there. Once per
//! connection it touches the backend's [`pool::Tally`], the [`worker::admission::Admission`] and the
//! loads of its [`worker::crew::Crew`], which are atomics (one that is fuller than another hands it
//! the connections it accepts), and hands its access record to a writer thread in batches.
//!
//! A [`session`] is a machine: it is told what happened and what time it is, and answers with
//! actions. It owns no socket, so the simulator in `tests/simulation` runs it, and the worker around
//! it, through faults that no kernel produces on demand, in virtual time.
//!
//! A [`poller::Poller`] takes *intents*, "pull bytes from here", "push them there", and reports each
//! one's outcome exactly once. Bytes travel as a [`transfer::Parcel`], an owned claim on a buffer or
//! a pipe inside the poller, so an idle connection holds neither.
//!
//! # Code map
//!
//! | module | is | may import |
//! |---|---|---|
//! | [`time`], [`token`], [`transfer`], [`net`] | words that everybody shares | nothing of ours |
//! | [`config`] | text to [`config::Plan`], or every error at once | `net` |
//! | [`session`] | one connection pair, as a machine | `time`, `transfer` |
//! | [`pool`] | backends and the choice among them | `config`, `net`, `time` |
//! | [`poller`] | the kernel | `net`, `time`, `token`, `transfer` |
//! | [`observe`] | logs and access records | `config`, `net`, `session::End`, `time` |
//! | [`worker`] | the loop | all of the above |
//! | [`server`] | threads, limits, signals | `worker` and below, `machine` |
//! | [`cli`], [`commands`], [`testserver`], [`mod@bench`], [`machine`] | the command line's tools | never `worker` |
//!
//! `tests/tidy.rs` keeps the table.
//!
//! # Invariants
//!
//! - `session` performs no I/O, reads no clock and allocates nothing.
//! - Only a poller reads the clock, once per turn. (The load generator measures: it has a clock of
//!   its own, in `bench::clock`.)
//! - A parcel is owed back: pushed, released, or lost with the push that carried it. At rest none is
//!   out.
//! - A pipe in the pool is empty.
//! - No byte is given to two backends: once a backend took one, the session stays with it.
//! - Nothing a peer, a file or a signal says makes us panic.
//! - `unsafe` is denied; what needs it (an ioctl, a socket option, a close of two, the ring and its
//!   buffers) is in `poller`, each with its reason.
//!
//! # Where this differs from the design it was built to, and why
//!
//! - A failed `Connect` hands its first parcel back ([`poller::Outcome::NotConnected`]). As a plain
//!   failure it would have lost it, and the retry on another backend with it.
//! - A pull may say that the peer finished with these bytes (`last`). The kernel often knows by
//!   then, and it saves a `recv` for every connection and, with `MSG_MORE`, a segment.
//! - The poller has [`condition`](poller::Poller::condition) and [`settle`](poller::Poller::settle):
//!   what is unacknowledged (so that a RST waits for it), whether a side that nothing is asked of
//!   has broken, and the keep-alive options, set when a connection is a second old: four system
//!   calls that short connections are spared.
//! - TCP_USER_TIMEOUT is not set: it also ends connections whose peer lives and does not read. The
//!   session looks for retransmissions and probes without an answer instead, a few times per
//!   timeout and only while something is unacknowledged.
//! - A short read is "drained" only until the kernel has told of the end: the edge with FIN after
//!   our own FIN is the last one, and says HUP.
//! - io_uring is not a poller of its own but a queue under the one poller
//!   ([`poller::readiness::queue`]): its accepts, polls, closes and, for connections that go on
//!   speaking, its receives are the ring's; sends and splices are system calls. That is the
//!   combination that prototypes found best, it needs one implementation of the laws' hard parts,
//!   and descriptors stay real ones, which splice and shutdown need.
//! - `Accept` says how many connections there is room for: a multishot accept takes in whoever comes.
//! - `config` uses [`net::Address`]: two address types with a conversion between them would be worse.
//! - `Greeting` is no phase yet: nothing inspects first bytes in this version.
#![deny(unsafe_code)]

pub mod bench;
pub mod cli;
pub mod commands;
pub mod config;
pub mod machine;
pub mod net;
pub mod observe;
pub mod poller;
pub mod pool;
pub mod server;
pub mod session;
pub mod testserver;
pub mod time;
pub mod token;
pub mod transfer;
pub mod worker;
