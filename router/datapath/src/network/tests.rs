//! An instance's network, made in namespaces of its own and read back from the kernel.

use super::*;
use crate::namespace::{DNS_ADDRESS, in_namespace};
use crate::namespaced::{
    NetworkPlan, isolated_async, new_namespace, prepare_instance_network, runtime,
};
use futures_util::stream::TryStreamExt;
use margay_core::address::VirtualIp;
use margay_core::composition::Egress;
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourState};
use rtnetlink::packet_route::route::RouteType;
use rtnetlink::{Handle, RouteMessageBuilder};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

fn plan(index: u32) -> NetworkPlan {
    let [high, low] = (index as u16).to_be_bytes();
    let identity = |half_v4, half_v6| VirtualIp {
        v4: Ipv4Addr::new(100, half_v4, high, low),
        v6: Ipv6Addr::new(0xfd4d, 0x6172, 0x6761, half_v6, 0, 0, 0, index as u16),
    };
    NetworkPlan {
        egress: Egress::None,
        endpoint: EndpointIndex(index),
        addresses: InstanceAddresses {
            called: identity(64, 0),
            caller: identity(96, 0x8000),
        },
    }
}

/// The host side of an endpoint's device in the calling thread's namespace.
fn existing_device(endpoint: EndpointIndex) -> Option<u32> {
    if_nametoindex(device_name(endpoint).as_str()).ok()
}

/// An instance's namespace with its network prepared, and its host side's index.
async fn prepared(plan: &NetworkPlan) -> (OwnedFd, u32) {
    let netns = new_namespace();
    let ifindex = prepare_instance_network(netns.as_fd(), plan).await.unwrap();
    (netns, ifindex)
}

/// Asks the kernel inside `netns` by rtnetlink.
fn ask<T: Send>(netns: &OwnedFd, question: impl AsyncFnOnce(Handle) -> T + Send) -> T {
    in_namespace(netns.as_fd(), || {
        runtime().block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().unwrap();
            tokio::spawn(connection);
            question(handle).await
        })
    })
    .unwrap()
}

#[test]
fn loopback_holds_every_address_and_the_device_none() {
    isolated_async(async || {
        let plan = plan(0x2a);
        let (netns, _) = prepared(&plan).await;

        let held: BTreeSet<(u32, IpAddr, u8)> = ask(&netns, async |handle| {
            let answers = handle.address().get().execute();
            let messages: Vec<_> = answers.try_collect().await.unwrap();
            let address_of = |attributes: &[AddressAttribute]| {
                attributes.iter().find_map(|attribute| match attribute {
                    AddressAttribute::Address(address) => Some(*address),
                    _ => None,
                })
            };
            let held = messages.iter().map(|message| {
                let address = address_of(&message.attributes).unwrap();
                (message.header.index, address, message.header.prefix_len)
            });
            held.collect()
        });

        let InstanceAddresses { called, caller } = plan.addresses;
        let expected = BTreeSet::from([
            (1, Ipv4Addr::LOCALHOST.into(), 8),
            (1, called.v4.into(), 32),
            (1, caller.v4.into(), 32),
            (1, DNS_ADDRESS.into(), 32),
            (1, Ipv6Addr::LOCALHOST.into(), 128),
            (1, called.v6.into(), 128),
            (1, caller.v6.into(), 128),
        ]);
        assert_eq!(held, expected);
    });
}

#[test]
fn connections_of_both_families_come_from_the_caller_address() {
    isolated_async(async || {
        let plan = plan(1);
        let (netns, _) = prepared(&plan).await;
        let other = self::plan(2).addresses.called;

        for (called, caller) in [
            (
                IpAddr::from(other.v4),
                IpAddr::from(plan.addresses.caller.v4),
            ),
            (
                IpAddr::from(other.v6),
                IpAddr::from(plan.addresses.caller.v6),
            ),
        ] {
            let source = in_namespace(netns.as_fd(), || {
                let any: IpAddr = match called {
                    IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                    IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
                };
                let socket = UdpSocket::bind((any, 0)).unwrap();
                socket.connect(SocketAddr::new(called, 80)).unwrap();
                socket.local_addr().unwrap().ip()
            });
            assert_eq!(source.unwrap(), caller);
        }
    });
}

#[test]
fn both_gateways_are_neighbours_for_ever() {
    isolated_async(async || {
        let (netns, _) = prepared(&plan(1)).await;

        let permanent: BTreeSet<(String, Vec<u8>)> = ask(&netns, async |handle| {
            let answers = handle.neighbours().get().execute();
            let messages: Vec<_> = answers.try_collect().await.unwrap();
            let permanent = messages
                .iter()
                .filter(|message| message.header.state == NeighbourState::Permanent);
            let described = permanent.map(|message| {
                let (mut address, mut mac) = (String::new(), Vec::new());
                for attribute in &message.attributes {
                    match attribute {
                        NeighbourAttribute::Destination(found) => address = format!("{found:?}"),
                        NeighbourAttribute::LinkLocalAddress(found) => mac.clone_from(found),
                        _ => {}
                    }
                }
                (address, mac)
            });
            described.collect()
        });

        let expected = BTreeSet::from([
            ("Inet(169.254.1.1)".to_owned(), HOST_MAC.to_vec()),
            ("Inet6(fe80::1)".to_owned(), HOST_MAC.to_vec()),
        ]);
        assert_eq!(permanent, expected);
    });
}

#[test]
fn no_address_of_the_instance_is_shadowed_by_a_broadcast_route() {
    isolated_async(async || {
        let (netns, _) = prepared(&plan(1)).await;

        let broadcasts = ask(&netns, async |handle| {
            let every = RouteMessageBuilder::<Ipv4Addr>::new().build();
            let answers = handle.route().get(every).execute();
            let routes: Vec<_> = answers.try_collect().await.unwrap();
            assert!(!routes.is_empty());
            routes
                .iter()
                .filter(|route| route.header.kind == RouteType::Broadcast)
                .filter(|route| !format!("{route:?}").contains("127.255.255.255"))
                .count()
        });

        assert_eq!(broadcasts, 0);
    });
}

/// What the kernel says of a device in this namespace.
async fn link_of(ifindex: u32) -> LinkMessage {
    let (connection, handle, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    let mut links = handle.link().get().match_index(ifindex).execute();
    links.try_next().await.unwrap().unwrap()
}

/// What arrived at the host side of a device so far, in packets.
async fn packets_from(ifindex: u32) -> u64 {
    let packets = |attribute: &LinkAttribute| match attribute {
        LinkAttribute::Stats64(statistics) => Some(statistics.rx_packets),
        _ => None,
    };
    let link = link_of(ifindex).await;
    link.attributes.iter().find_map(packets).unwrap()
}

#[test]
fn the_first_packet_leaves_at_once_with_no_discovery_before_it() {
    isolated_async(async || {
        let (netns, ifindex) = prepared(&plan(1)).await;
        let other = plan(2).addresses.called;
        assert_eq!(packets_from(ifindex).await, 0);

        in_namespace(netns.as_fd(), || {
            let v4 = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            v4.send_to(b"hello", (other.v4, 80)).unwrap();
            let v6 = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
            v6.send_to(b"hello", (other.v6, 80)).unwrap();
        })
        .unwrap();

        assert_eq!(packets_from(ifindex).await, 2);
    });
}

/// Becomes `nobody` on the calling thread only, which loses every capability.
fn become_nobody() {
    let nobody: libc::c_long = 65_534;
    // SAFETY: both system calls take numbers only; called raw, they change this one thread.
    let (group, user) = unsafe {
        (
            libc::syscall(libc::SYS_setresgid, nobody, nobody, nobody),
            libc::syscall(libc::SYS_setresuid, nobody, nobody, nobody),
        )
    };
    assert_eq!((group, user), (0, 0));
}

#[test]
fn an_unprivileged_program_serves_port_80_and_pings() {
    isolated_async(async || {
        let plan = plan(1);
        let (netns, _) = prepared(&plan).await;

        in_namespace(netns.as_fd(), || {
            become_nobody();
            UdpSocket::bind((plan.addresses.called.v4, 80)).unwrap();
            std::net::TcpListener::bind((plan.addresses.called.v6, 80)).unwrap();
            for (family, protocol) in [
                (libc::AF_INET, libc::IPPROTO_ICMP),
                (libc::AF_INET6, libc::IPPROTO_ICMPV6),
            ] {
                // SAFETY: socket takes numbers only; the descriptor is closed with the process.
                let answer = unsafe { libc::socket(family, libc::SOCK_DGRAM, protocol) };
                Errno::result(answer).expect("an unprivileged ping socket");
            }
        })
        .unwrap();
    });
}

#[test]
fn settings_of_the_namespace_forbid_discovery() {
    isolated_async(async || {
        let (netns, _) = prepared(&plan(1)).await;

        for (setting, expected) in [
            ("net/ipv6/conf/eth0/accept_ra", "0"),
            ("net/ipv6/conf/eth0/autoconf", "0"),
            ("net/ipv6/conf/eth0/addr_gen_mode", "1"),
            ("net/ipv6/conf/eth0/accept_dad", "0"),
            ("net/ipv6/conf/eth0/disable_ipv6", "0"),
            ("net/ipv4/conf/eth0/rp_filter", "0"),
        ] {
            let path = format!("/proc/sys/{setting}");
            let found = in_namespace(netns.as_fd(), || std::fs::read_to_string(path).unwrap());
            assert_eq!(found.unwrap().trim(), expected, "{setting}");
        }
    });
}

#[test]
fn the_host_side_is_up_silent_and_of_the_networks_mtu() {
    isolated_async(async || {
        let (_netns, ifindex) = prepared(&plan(0x2a)).await;

        assert_eq!(if_nametoindex("mg2a"), Ok(ifindex));
        let setting = "/proc/sys/net/ipv6/conf/mg2a/disable_ipv6";
        assert_eq!(std::fs::read_to_string(setting).unwrap().trim(), "1");
        let link = link_of(ifindex).await;
        assert!(format!("{:?}", link.header.flags).contains("LowerUp"));
        assert!(link.attributes.contains(&LinkAttribute::Mtu(INSTANCE_MTU)));
    });
}

#[test]
fn a_second_try_begins_anew_and_works() {
    isolated_async(async || {
        let plan = plan(1);
        let (netns, first) = prepared(&plan).await;

        let second = prepare_instance_network(netns.as_fd(), &plan)
            .await
            .unwrap();

        assert_ne!(first, second);
        assert_eq!(existing_device(plan.endpoint), Some(second));
    });
}

#[test]
fn a_try_under_another_endpoint_takes_the_first_ones_device_away() {
    isolated_async(async || {
        let (netns, _) = prepared(&plan(1)).await;

        let other = plan(2);
        prepare_instance_network(netns.as_fd(), &other)
            .await
            .unwrap();

        assert_eq!(existing_device(EndpointIndex(1)), None);
        assert!(existing_device(EndpointIndex(2)).is_some());
    });
}

#[test]
fn a_device_of_somebody_else_is_left_alone() {
    isolated_async(async || {
        let host = Netlink::connect().unwrap();
        let foreign = LinkVeth::new("mg1", "other").build();
        host.add_device("mg1", foreign).await.unwrap();
        let netns = new_namespace();

        let error = prepare_instance_network(netns.as_fd(), &plan(1))
            .await
            .unwrap_err();

        assert!(matches!(error, NetworkError::NameTaken(_)), "{error}");
        assert!(if_nametoindex("other").is_ok());
    });
}

#[test]
fn a_failure_leaves_no_device_behind() {
    isolated_async(async || {
        let mut plan = plan(1);
        // Linux gives no device a multicast address.
        plan.addresses.caller.v6 = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let netns = new_namespace();

        let error = prepare_instance_network(netns.as_fd(), &plan)
            .await
            .unwrap_err();

        assert!(error.to_string().contains("ff02::1"), "{error}");
        assert_eq!(existing_device(plan.endpoint), None);
    });
}

#[test]
fn a_silenced_device_is_down_and_may_be_gone() {
    isolated_async(async || {
        let (_netns, ifindex) = prepared(&plan(1)).await;
        let is_up = async || format!("{:?}", link_of(ifindex).await.header.flags).contains("Up");
        assert!(is_up().await);

        silence_device(ifindex).await.unwrap();
        assert!(!is_up().await);

        remove_device(ifindex).await.unwrap();
        silence_device(ifindex).await.unwrap();
    });
}

#[test]
fn removing_twice_is_a_success() {
    isolated_async(async || {
        let (_netns, ifindex) = prepared(&plan(1)).await;

        remove_device(ifindex).await.unwrap();
        assert_eq!(existing_device(EndpointIndex(1)), None);
        remove_device(ifindex).await.unwrap();
    });
}

#[test]
fn a_prepared_instance_takes_ipv6_connections_at_once() {
    isolated_async(async || {
        let namespaces: Vec<OwnedFd> = (0..50).map(|_| new_namespace()).collect();
        for (netns, index) in namespaces.iter().zip(0..) {
            let plan = plan(index);

            prepare_instance_network(netns.as_fd(), &plan)
                .await
                .unwrap();

            let InstanceAddresses { called, caller } = plan.addresses;
            for address in [called.v6, caller.v6] {
                let outcome = in_namespace(netns.as_fd(), || {
                    let listener = std::net::TcpListener::bind((address, 80)).unwrap();
                    let addr = listener.local_addr().unwrap();
                    std::net::TcpStream::connect_timeout(&addr, Duration::from_secs(10)).map(drop)
                });
                outcome.unwrap().unwrap();
            }
        }
    });
}

#[test]
fn fifty_instances_are_prepared_in_little_time() {
    isolated_async(async || {
        let namespaces: Vec<OwnedFd> = (0..50).map(|_| new_namespace()).collect();
        let began = Instant::now();

        for (netns, index) in namespaces.iter().zip(0..) {
            prepare_instance_network(netns.as_fd(), &plan(index))
                .await
                .unwrap();
        }

        let each = began.elapsed() / 50;
        println!("{each:?} each");
        assert!(each < Duration::from_millis(100), "{each:?} each");
    });
}
