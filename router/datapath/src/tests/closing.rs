//! Closing flows that are over, while their ports are used again.

use super::frames::{TcpFlags, every_kind_of_key, frame, tcp_frame, tcp_key};
use super::lab::{CLIENT, Lab, Verdict, in_own_namespaces};
use margay_core::drop_reason::DropReason;
use margay_core::moment::Moment;
use margay_core::port::{AdoptedFlow, FlowEntries, SpentFlow};

const CLOSED: Moment = Moment::from_nanos(99);

impl Lab {
    /// The flow as it is read now, to be closed if nothing passes any more.
    fn spent(&self, entries: &FlowEntries) -> SpentFlow {
        let reading = self.reading(entries);
        SpentFlow {
            keys: entries.keys(),
            forward: entries.forward.slot,
            reverse: entries.reverse.slot,
            read: (reading.forward, reading.reverse),
        }
    }

    /// One packet there and one back, which are delivered.
    fn exchange(&mut self, entries: &FlowEntries) {
        for (ifindex, key) in [
            (self.client_ifindex, entries.forward.key),
            (self.server_ifindex, entries.reverse.key),
        ] {
            let verdict = self.instance_sends(ifindex, &frame(key));
            assert_eq!(verdict, Verdict::Redirected(frame(key)), "{key}");
        }
    }

    fn counted(&self, entries: &FlowEntries) -> (u64, u64) {
        let reading = self.reading(entries);
        (reading.forward.packets, reading.reverse.packets)
    }

    /// How many packets of the client were handed up since this was asked last.
    fn handed_up(&mut self) -> u64 {
        let sent = self.datapath.upcalls_sent(CLIENT);
        self.datapath.upcalls_reset(CLIENT);
        sent
    }
}

fn syn() -> Vec<u8> {
    let syn = true;
    let flags = TcpFlags {
        syn,
        ..TcpFlags::default()
    };
    tcp_frame(tcp_key(), flags)
}

#[test]
fn a_flow_that_nothing_passed_through_is_closed() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        for key in every_kind_of_key() {
            let entries = lab.open(key);
            lab.exchange(&entries);
            let spent = lab.spent(&entries);
            let (reused, closed) = lab.datapath.close_unused(&[spent], CLOSED);
            closed.unwrap();
            assert_eq!(reused, []);
            assert_eq!(lab.datapath.adopt_flows().unwrap(), []);
        }
    });
}

/// ```text
///   read: over  |  client --[SYN]--> server  |  closed, if nothing passed: it goes on
/// ```
#[test]
fn a_packet_after_the_reading_begins_a_new_flow_in_the_same_entries() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        for key in every_kind_of_key() {
            for used_by in [false, true] {
                let entries = lab.open(key);
                lab.exchange(&entries);
                let spent = lab.spent(&entries);
                let (ifindex, key) = match used_by {
                    true => (lab.server_ifindex, entries.reverse.key),
                    false => (lab.client_ifindex, entries.forward.key),
                };
                lab.instance_sends(ifindex, &frame(key));

                let (reused, closed) = lab.datapath.close_unused(&[spent], CLOSED);

                closed.unwrap();
                let flow = AdoptedFlow {
                    entries: entries.clone(),
                    opened: CLOSED,
                };
                assert_eq!(reused[0].flow, flow);
                let alone = (u64::from(!used_by), u64::from(used_by));
                let counted = (reused[0].forward.packets, reused[0].reverse.packets);
                assert_eq!(counted, alone, "what is the new flow's");
                lab.exchange(&entries);
                assert_eq!(lab.counted(&entries), (alone.0 + 1, alone.1 + 1));
                lab.close(&entries);
            }
        }
        lab.assert_drops(&[]);
    });
}

/// ```text
///   marked  |  client --[SYN]--> up, uncounted  |  deleted  |  client --[SYN]--> up
/// ```
#[test]
fn a_packet_in_the_middle_of_a_close_goes_up() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let entries = lab.open(tcp_key());
        lab.exchange(&entries);
        let spent = lab.spent(&entries);
        assert!(lab.datapath.flow_maps().mark_unless_used(&spent));

        let before = lab.handed_up();
        lab.instance_sends(lab.client_ifindex, &syn());
        assert_eq!(lab.handed_up(), before + 1);
        assert_eq!(lab.counted(&entries), (1, 1));
        lab.close(&entries);
        lab.instance_sends(lab.client_ifindex, &syn());
        assert_eq!(lab.handed_up(), before + 2);
        lab.assert_drops(&[]);
    });
}

/// ```text
///   client --[SYN]--> server  |  marked: used  |  server --[answer]--> up  |  it goes on
/// ```
#[test]
fn a_packet_in_the_middle_of_a_close_that_is_given_up_is_counted_once() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let entries = lab.open(tcp_key());
        lab.exchange(&entries);
        let spent = lab.spent(&entries);
        lab.instance_sends(lab.client_ifindex, &syn());
        assert!(!lab.datapath.flow_maps().mark_unless_used(&spent));
        lab.instance_sends(lab.client_ifindex, &syn());
        assert_eq!(lab.counted(&entries), (2, 1));

        let taken = lab.datapath.flow_maps().begin_anew(&spent, CLOSED).unwrap();

        assert_eq!(taken.flow.entries, entries);
        assert_eq!((taken.forward.packets, taken.reverse.packets), (1, 0));
        lab.exchange(&entries);
        assert_eq!(lab.counted(&entries), (2, 1));
    });
}

/// The router's own packet is not handed up to it again.
#[test]
fn a_packet_from_the_router_meets_no_flow_that_is_being_closed() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let Verdict::Redirected(up) = lab.instance_sends(lab.client_ifindex, &syn()) else {
            panic!("dropped");
        };
        let entries = lab.open(tcp_key());
        let spent = lab.spent(&entries);
        assert!(lab.datapath.flow_maps().mark_unless_used(&spent));
        assert_eq!(lab.router_sends(&up), Verdict::Dropped);
        lab.assert_drops(&[(DropReason::UpcallMiss, 1)]);
    });
}

#[test]
fn a_flow_whose_close_was_cut_short_is_adopted_and_goes_on() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let entries = lab.open(tcp_key());
        let spent = lab.spent(&entries);
        assert!(lab.datapath.flow_maps().mark_unless_used(&spent));
        let mut lab = lab.restart();
        let adopted = lab.datapath.adopt_flows().unwrap();
        assert_eq!(adopted[0].entries, entries);
        lab.exchange(&entries);
    });
}
