//! Resets and SYNs that no socket takes: they end nothing.

use super::frames::{TcpFlags, tcp_frame};
use super::lab::in_own_namespaces;
use super::live::{Host, clear, flows, tcp_connect};
use super::refused::send_raw;
use margay_core::flow_key::{FlowKey, Protocol};
use margay_core::port::{FlowSlots, SlotReading};
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Longer than any of this takes.
const DEADLINE: Duration = Duration::from_secs(5);

/// A client's connection to a server, each in its instance.
struct Connected {
    host: Host,
    slots: FlowSlots,
    client: TcpStream,
    server: TcpStream,
}

impl Connected {
    fn new(key: FlowKey, delivered: FlowKey) -> Self {
        let mut host = Host::new(2);
        let slots = host.open(key, delivered);
        let listener = host.instances[1].run(|| TcpListener::bind(delivered.destination).unwrap());
        let client = host.instances[0].run(|| tcp_connect(key));
        let (server, _) = listener.accept().unwrap();
        server.set_read_timeout(Some(DEADLINE)).unwrap();
        Connected {
            host,
            slots,
            client,
            server,
        }
    }

    /// Says a word in both directions.
    fn assert_talks(&mut self) {
        let mut word = [0; 4];
        self.client.write_all(b"ping").unwrap();
        self.server.read_exact(&mut word).unwrap();
        self.server.write_all(b"pong").unwrap();
        self.client.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"pong");
    }
}

/// Waits for a condition.
fn until<T>(what: &str, reached: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = reached() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

/// ```text
///   client --[RST, SYN: sequence 1000, in nobody's window]--> server: not taken
///   client <--[likewise]-- server
/// ```
#[test]
fn resets_and_syns_out_of_window_end_no_connection() {
    in_own_namespaces(|| {
        for (key, delivered) in flows(Protocol::Tcp) {
            let mut connected = Connected::new(key, delivered);
            connected.assert_talks();
            let quiet = connected.host.reading(connected.slots);
            let none = TcpFlags::default();
            let syn = TcpFlags { syn: true, ..none };
            let rst = TcpFlags { rst: true, ..none };
            for (side, key) in [(0, key), (1, delivered.reversed())] {
                connected.host.instances[side].run(|| {
                    send_raw("eth0", &tcp_frame(key, syn));
                    send_raw("eth0", &tcp_frame(key, rst));
                });
            }
            let passed = until("they passed", || {
                let reading = connected.host.reading(connected.slots);
                let more =
                    |after: SlotReading, before: SlotReading| after.packets >= before.packets + 2;
                let passed =
                    more(reading.forward, quiet.forward) && more(reading.reverse, quiet.reverse);
                passed.then_some(reading)
            });
            assert!(!passed.forward.rst_seen && !passed.reverse.rst_seen);
            connected.assert_talks();
            clear(connected.host);
        }
    });
}

#[test]
fn a_reset_that_is_taken_ends_its_connection() {
    in_own_namespaces(|| {
        for (key, delivered) in flows(Protocol::Tcp) {
            let mut connected = Connected::new(key, delivered);
            connected.assert_talks();
            let at_once = libc::linger {
                l_onoff: 1,
                l_linger: 0,
            };
            setsockopt(&connected.client, sockopt::Linger, &at_once).unwrap();
            let Connected {
                host,
                slots,
                client,
                server,
            } = connected;
            drop(client);
            until("the reset was taken", || {
                let reading = host.reading(slots);
                reading.forward.rst_seen.then_some(reading)
            });
            drop(server);
            clear(host);
        }
    });
}
