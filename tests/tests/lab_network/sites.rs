//! Sites joined by routers, and how soon many hosts stand.

use crate::packets::{Echo, answers, lab, send};
use margay_tests::lab::{Lab, Topology};
use std::path::Path;
use std::time::{Duration, Instant};

/// A lab of sixty hosts that takes longer is of no use to anybody who waits for it.
const SIXTY_HOSTS_MAX: Duration = Duration::from_secs(30);

#[test]
fn hosts_have_their_names() {
    let lab = lab("[site.paris]\nhosts = 2\n");
    let name = lab.host("paris-2").command("hostname").output().unwrap();
    assert_eq!(name.stdout, b"paris-2\n");
}

#[test]
fn host_of_one_family_speaks_that_one_only() {
    let lab = lab("[segment.paris]\nv6 = \"fd00:1::/64\"\n[site.paris]\nhosts = 2\n");
    let addresses = lab.addresses("paris-2");
    assert_eq!(addresses.len(), 1);
    let _echo = Echo::start(&lab, "paris-2", &addresses[0].to_string());
    assert!(answers(&lab, "paris-1", &addresses[0].to_string()));
}

#[test]
fn unknown_names_are_told_with_the_known_ones() {
    let lab = lab("[site.paris]\nhosts = 2\n");
    let told = lab.find_host("rome-1").err().unwrap().to_string();
    let expected = "no host is called `rome-1`; there are paris-1, paris-2";
    assert_eq!(told, expected);
    let told = lab.find_link("x").err().unwrap().to_string();
    assert!(told.ends_with("paris-1-paris, paris-2-paris"), "{told}");
}

/// Two wires of 10 ms each lie between the regions.
#[test]
fn sixty_hosts_in_twelve_sites_stand_in_seconds() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("topologies/twelve-sites.toml");
    let topology = Topology::read(&path).unwrap();
    let start = Instant::now();
    let lab = Lab::without_daemons(&topology).unwrap();
    let took = start.elapsed();
    println!("60 hosts stand after {:.1} s", took.as_secs_f64());
    assert!(took < SIXTY_HOSTS_MAX, "{took:?}");

    for addr in lab.addresses("patras-south-5") {
        let addr = addr.to_string();
        let _echo = Echo::start(&lab, "patras-south-5", &addr);
        let fate = send(
            &lab,
            "oslo-north-1",
            &addr,
            3,
            Duration::ZERO,
            crate::packets::PATIENCE,
        );
        assert_eq!(fate.answered.len(), 3, "{addr}");
        assert!(fate.shortest_s.unwrap() >= 0.040, "{fate:?}");
        assert_eq!(fate.seen_as.contains(':'), addr.contains(':'));
    }
    let start = Instant::now();
    drop(lab);
    println!("and are gone after {:.1} s", start.elapsed().as_secs_f64());
}
