//! Links: cut, one-way cut, heal; and by the wire slow, drop, duplicate, reorder.

use crate::packets::{Echo, PATIENCE, SILENCE, answers, is_silent, paris, send};
use std::time::Duration;

const B: &str = "10.1.0.2";
const B_V6: &str = "fd00:1::2";
/// How long is waited for answers of which some are lost.
const LOSSES: Duration = Duration::from_secs(1);
const C: &str = "10.1.0.3";

#[test]
fn cut_link_carries_nothing_until_it_heals() {
    let lab = paris();
    let _b = Echo::start(&lab, "b", B);
    let _b_v6 = Echo::start(&lab, "b", B_V6);
    let _c = Echo::start(&lab, "c", C);
    assert!(answers(&lab, "a", B) && answers(&lab, "a", B_V6));

    lab.link("b-paris").cut().unwrap();
    assert!(is_silent(&lab, "a", B) && is_silent(&lab, "a", B_V6));
    assert!(answers(&lab, "a", C), "other links stay whole");

    lab.link("b-paris").heal().unwrap();
    assert!(answers(&lab, "a", B) && answers(&lab, "a", B_V6));
}

/// ```text
///   a ──▶ b   b hears a
///   a ✕── b   a does not hear b
/// ```
#[test]
fn half_open_link_is_heard_from_one_side() {
    let lab = paris();
    let b = Echo::start(&lab, "b", B);
    // Both know each other's hardware address from here on.
    assert!(answers(&lab, "a", B));
    b.heard(3);

    lab.link("a-paris").cut_inwards().unwrap();
    assert!(is_silent(&lab, "a", B));
    assert_eq!(b.heard(3), 3, "b hears a");
    lab.link("a-paris").heal().unwrap();
    assert!(answers(&lab, "a", B));
    b.heard(3);

    lab.link("a-paris").cut_outwards().unwrap();
    assert!(is_silent(&lab, "a", B));
    assert_eq!(b.heard(0), 0, "b does not hear a");
}

#[test]
fn slow_link_takes_its_latency_each_way() {
    let lab = paris();
    let _b = Echo::start(&lab, "b", B);
    let latency = Duration::from_millis(40);
    lab.link("a-paris").slow(latency).unwrap();

    let fate = send(&lab, "a", B, 5, Duration::ZERO, PATIENCE);

    assert_eq!(fate.answered.len(), 5);
    let shortest = Duration::from_secs_f64(fate.shortest_s.unwrap());
    assert!(shortest >= 2 * latency, "{shortest:?}");
    let tally = lab.link("a-paris").tally().unwrap();
    assert!(tally.outwards.carried >= 5 && tally.inwards.carried >= 5);
}

#[test]
fn wired_link_can_be_cut_too() {
    let lab = paris();
    let _b = Echo::start(&lab, "b", B);
    lab.link("b-paris").slow(Duration::from_millis(1)).unwrap();
    assert!(answers(&lab, "a", B));
    lab.link("b-paris").cut().unwrap();
    assert!(is_silent(&lab, "a", B));
    lab.link("b-paris").heal().unwrap();
    assert!(answers(&lab, "a", B), "and the wire stays");
    assert!(lab.link("b-paris").tally().is_ok());
    assert!(
        lab.link("a-paris").tally().is_err(),
        "a plain link has none"
    );
}

#[test]
fn lossy_link_loses_about_the_part_it_is_told() {
    let lab = paris();
    let _b = Echo::start(&lab, "b", B);
    lab.link("a-paris").drop(0.2).unwrap();

    let fate = send(&lab, "a", B, 2000, Duration::from_micros(200), LOSSES);

    // Both ways survive 0.8 of 0.8; five standard deviations are 107.
    let answered = fate.answered.len();
    assert!((1173..=1387).contains(&answered), "{answered} of 2000");
    let tally = lab.link("a-paris").tally().unwrap();
    assert!(tally.outwards.dropped > 0 && tally.inwards.dropped > 0);
    assert_eq!(tally.outwards.overflowed + tally.inwards.overflowed, 0);
}

#[test]
fn reordering_link_loses_nothing() {
    let lab = paris();
    let _b = Echo::start(&lab, "b", B);
    let pause = Duration::from_micros(200);
    let before = send(&lab, "a", B, 1000, pause, PATIENCE);
    assert_eq!((before.answered.len(), before.overtaken()), (1000, 0));

    lab.link("a-paris").reorder(0.1).unwrap();
    let fate = send(&lab, "a", B, 1000, pause, PATIENCE);

    assert_eq!(fate.answered.len(), 1000);
    // About 190 are held back on one way or the other; on a busy machine some gaps are longer.
    let overtaken = fate.overtaken();
    assert!((50..=350).contains(&overtaken), "{overtaken} of 1000");
}

#[test]
fn doubling_link_brings_frames_twice() {
    let lab = paris();
    let b = Echo::start(&lab, "b", B);
    assert!(answers(&lab, "a", B));
    b.heard(3);
    lab.link("b-paris").duplicate(1.0).unwrap();
    send(&lab, "a", B, 5, Duration::ZERO, SILENCE);
    assert_eq!(b.heard(10), 10);
}

/// What would leave a host in super-packets leaves it in frames when a wire carries them.
#[test]
fn streams_pass_a_wire_whole() {
    let lab = paris();
    lab.link("a-paris").slow(Duration::from_millis(1)).unwrap();
    let serve = "import socket;s=socket.create_server(('10.1.0.2',80));print('ready',flush=True);\
                 c=s.accept()[0];n=0\nwhile d:=c.recv(1<<16):n+=len(d)\nprint(n,flush=True)";
    let call = "import socket;socket.create_connection(('10.1.0.2',80)).sendall(bytes(4<<20))";
    let mut server = lab.host("b").command("/usr/bin/python3");
    let server = server
        .args(["-c", serve])
        .stdout(std::process::Stdio::piped());
    let mut server = server.spawn().unwrap();
    let mut said = std::io::BufReader::new(server.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    let mut client = lab.host("a").command("timeout");
    let sent = client
        .args(["20", "/usr/bin/python3", "-c", call])
        .status()
        .unwrap();

    assert!(sent.success());
    line.clear();
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    assert_eq!(line.trim(), (4 << 20).to_string());
    server.wait().unwrap();
    let tally = lab.link("a-paris").tally().unwrap();
    let segments = (4 << 20) / 1448;
    assert!(
        tally.outwards.carried >= segments,
        "whole frames only: {tally:?}"
    );
}
