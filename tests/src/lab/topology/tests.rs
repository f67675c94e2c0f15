//! Topologies read: what files mean, and what is wrong with wrong ones.

use super::{Destination, Node, Role, Route, Topology};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

fn topology(text: &str) -> Topology {
    match Topology::parse(text) {
        Ok(topology) => topology,
        Err(mistakes) => panic!("{}", mistakes.render("test", text)),
    }
}

fn example(name: &str) -> Topology {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("topologies");
    Topology::read(&directory.join(name)).unwrap()
}

fn node<'t>(topology: &'t Topology, name: &str) -> (usize, &'t Node) {
    let mut nodes = topology.nodes.iter().enumerate();
    nodes.find(|(_, node)| node.name == name).unwrap()
}

fn addresses(topology: &Topology, name: &str) -> Vec<String> {
    let (_, node) = node(topology, name);
    node.addresses().map(|it| it.to_string()).collect()
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn three_hosts_take_two_lines() {
    let topology = topology("[site.paris]\nhosts = 3\n");
    let names: Vec<&str> = topology.hosts().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["paris-1", "paris-2", "paris-3"]);
    assert_eq!(
        addresses(&topology, "paris-1"),
        ["10.0.1.1", "fd00:0:0:1::1"]
    );
    assert_eq!(
        addresses(&topology, "paris-3"),
        ["10.0.1.3", "fd00:0:0:1::3"]
    );
    assert_eq!(topology.nodes.len(), 3, "one segment needs no router");
    assert_eq!(topology.nodes[0].links[0].name, "paris-1-paris");
    assert_eq!(topology.routes(0), []);
}

#[test]
fn sites_are_joined_by_a_router_if_the_file_names_none() {
    let topology = topology("[site.paris]\nhosts = 1\n[site.rome]\nhosts = 1\n");
    let (index, _) = node(&topology, "paris-1");
    let default = |via| Route {
        to: Destination::Elsewhere,
        via: addr(via),
        link: 0,
    };
    assert_eq!(
        topology.routes(index),
        [default("10.0.1.1"), default("fd00:0:0:1::1")]
    );
    assert_eq!(addresses(&topology, "paris-1")[0], "10.0.1.2");
    let (backbone, node) = node(&topology, "backbone");
    assert_eq!(node.role, Role::Router { masquerade: None });
    assert_eq!(topology.routes(backbone), []);
}

#[test]
fn routes_lead_over_several_routers() {
    let text = r#"
        [segment.middle]
        v4 = "10.9.0.0/24"
        [site.left]
        hosts = 1
        [site.right]
        hosts = 1
        [router.one]
        segments = ["left", "middle"]
        [router.two]
        segments = ["middle", "right"]
    "#;
    let topology = topology(text);
    let routes = topology.routes(node(&topology, "one").0);
    let right = topology.segments.iter().find(|it| it.name == "right");
    let expected = Route {
        to: Destination::Segment(right.unwrap().v4.unwrap().into()),
        via: addr("10.9.0.2"),
        link: 1,
    };
    assert_eq!(routes, [expected], "and no v6 over a segment that has none");
}

#[test]
fn host_has_the_addresses_that_its_section_lists_and_no_others() {
    let text = r#"
        [site.paris]
        hosts = 1
        [host.a]
        site = "paris"
        addresses = ["fd00:0:0:1::77"]
        daemon = ["--flow-log", "all"]
    "#;
    let topology = topology(text);
    assert_eq!(addresses(&topology, "a"), ["fd00:0:0:1::77"]);
    let Role::Host {
        site,
        daemon_options,
    } = &node(&topology, "a").1.role
    else {
        panic!("a host");
    };
    assert_eq!(*site, "paris".parse().unwrap());
    assert_eq!(daemon_options[..], ["--flow-log", "all"]);
}

#[test]
fn options_name_the_hosts_own_address_and_say_when_there_is_none() {
    let text = r#"
        [segment.paris]
        v4 = "10.9.0.0/24"
        [site.paris]
        hosts = 1
        daemon = ["--underlay={v4}:7400"]
        [host.a]
        site = "paris"
        daemon = ["--underlay=[{v6}]:7400"]
    "#;
    let topology = topology(text);
    let options = |host| node(&topology, host).1.daemon_options();
    assert_eq!(options("paris-1").unwrap(), ["--underlay=10.9.0.1:7400"]);
    let error = options("a").unwrap_err().to_string();
    assert!(error.contains("`a` has no address for `{v6}`"), "{error}");
}

#[test]
fn nobody_has_a_way_to_what_is_masqueraded() {
    let topology = example("behind-nat.toml");
    assert_eq!(topology.routes(node(&topology, "server").0), []);
    assert_eq!(topology.routes(node(&topology, "door").0), []);
    let alice = topology.routes(node(&topology, "alice").0);
    assert_eq!(alice.len(), 1);
    assert_eq!(alice[0].via, addr("192.168.1.1"));
}

#[test]
fn examples_are_whole() {
    let two = example("two-sites.toml");
    assert_eq!(two.hosts().count(), 5);
    let (_, backbone) = node(&two, "backbone");
    let wire = backbone.links[1].wire.unwrap();
    assert_eq!(wire.latency, Duration::from_millis(10));
    let every = example("every-key.toml");
    assert_eq!(every.hosts().count(), 4);
    let twelve = example("twelve-sites.toml");
    assert_eq!(twelve.hosts().count(), 60);
    let (oslo, _) = node(&twelve, "oslo-north-1");
    assert_eq!(twelve.routes(oslo).len(), 2, "one router leads everywhere");
    let (north, _) = node(&twelve, "north");
    assert_eq!(twelve.routes(north).len(), 16, "eight sites, two families");
}

/// Each wrong line with the mistake that it must give.
const WRONG: [(&str, &str); 19] = [
    (
        "[host.x]\nsite = \"paris\"\naddresses = []",
        "host `x` has no address",
    ),
    ("[site.rome]\nhost = 3", "site `rome` has no key `host`"),
    ("[site.rome]\nhosts = 1000", "`hosts` is 1000"),
    ("[site.\"a..b\"]", "`a..b` is no path of a site"),
    (
        "[site.rome]\nsegment = \"pars\"",
        "no segment is called `pars`",
    ),
    ("[host.x]", "host `x` lacks `site`"),
    ("[host.x]\nsite = \"pari\"", "no site is called `pari`"),
    ("[host.X]\nsite = \"paris\"", "`X` may hold only"),
    (
        "[host.paris-1]\nsite = \"paris\"",
        "two nodes are called `paris-1`",
    ),
    (
        "[host.x]\nsite = \"paris\"\nsegments = [\"lan\"]",
        "no segment is called `lan`",
    ),
    (
        "[host.x]\nsite = \"paris\"\naddresses = [\"10.7.0.1\"]",
        "`10.7.0.1` lies on no segment of `x`",
    ),
    (
        "[host.x]\nsite = \"paris\"\naddresses = [\"10.0.1.255\"]",
        "`10.0.1.255` stands for all of segment `paris`",
    ),
    (
        "[host.x]\nsite = \"paris\"\naddresses = [\"10.0.1.8\", \"10.0.1.9\"]",
        "`x` has two addresses there",
    ),
    (
        "[host.x]\nsite = \"paris\"\naddresses = [\"10.0.1.8\"]\n\
         [host.y]\nsite = \"paris\"\naddresses = [\"10.0.1.8\"]",
        "`10.0.1.8` is taken",
    ),
    (
        "[segment.lan]\nv4 = \"10.1.0.5/24\"",
        "`10.1.0.5/24` has bits behind",
    ),
    (
        "[segment.lan]\nv4 = \"fd00::/64\"",
        "`fd00::/64` is no v4 prefix",
    ),
    (
        "[segment.lan]\n[router.r]\nsegments = [\"paris\", \"lan\"]\nmasquerade = \"lann\"",
        "router `r` is not on segment `lann`",
    ),
    ("[link.a-paris]\ndrop = 0.5", "no link is called `a-paris`"),
    (
        "[segment.one]\nv4 = \"10.1.0.0/16\"\n[segment.two]\nv4 = \"10.1.2.0/24\"",
        "`backbone` reaches segments `one` and `two`, whose prefixes overlap",
    ),
];

#[test]
fn each_mistake_is_named_with_its_place() {
    for (wrong, expected) in WRONG {
        let text = format!("[site.paris]\nhosts = 1\n{wrong}\n");
        let Err(mistakes) = Topology::parse(&text) else {
            panic!("no mistake found in:\n{text}");
        };
        let told = mistakes.to_string();
        assert!(told.contains(expected), "{wrong}: {told}");
        assert_eq!(mistakes.mistakes().len(), 1, "{wrong}: {told}");
    }
}

#[test]
fn mistake_shows_line_and_remedy() {
    let text = "[site.paris]\nhosts = 1\n[host.x]\nsite = \"pari\"\n";
    let mistakes = Topology::parse(text).unwrap_err();
    let shown = mistakes.render("lab.toml", text);
    let expected = "\
error: no site is called `pari`
 --> lab.toml:4:8
  |
4 | site = \"pari\"
  |        ^^^^^^ expected `paris`
  = help: did you mean `paris`?
";
    assert_eq!(shown, expected);
}

#[test]
fn lab_without_hosts_is_none() {
    let told = Topology::parse("[segment.lan]\n").unwrap_err().to_string();
    assert!(told.contains("describes 0 hosts"), "{told}");
}

#[test]
fn full_segment_says_so() {
    let text = "[segment.lan]\nv4 = \"10.1.0.0/29\"\n[site.x]\nsegment = \"lan\"\nhosts = 7\n";
    let told = Topology::parse(text).unwrap_err().to_string();
    assert!(told.contains("no address left for `x-7`"), "{told}");
}
