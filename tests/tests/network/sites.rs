//! Sites of one network: names beyond the own site, and what becomes of them when hosts fail.

use margay_tests::lab::{Host, Lab, Topology, until};
use std::time::Duration;

/// How long hosts may take to find, or to miss, each other, on a busy machine.
pub const SOON: Duration = Duration::from_secs(60);

pub const CALLER: &str = "1.caller";

/// Hosts in sites that are one network, founded by the first of them.
fn network(sites: &str, founder: &str, gateways: &'static [&'static str]) -> Lab {
    let topology = Topology::parse(sites).unwrap_or_else(|error| panic!("{error}"));
    let lab = Lab::without_daemons(&topology).unwrap();
    let roles = |host: &str| -> &'static [&'static str] {
        if gateways.contains(&host) {
            &["gateway"]
        } else {
            &[]
        }
    };
    lab.found_network(founder, roles).unwrap();
    lab
}

/// A caller on one host, and an echo server for each name on another.
pub fn composition(caller_on: &str, servers: &[(&str, &str)]) -> String {
    let mut text = "[composition]\nname = \"far\"\nversion = 1\n".to_owned();
    for (name, host) in servers {
        text += &format!(
            "[automaton.{name}]\n\
             command = [\"/usr/bin/python3\", \"-m\", \"http.server\", \"8000\", \"--bind\", \"::\"]\n\
             ports = {{ http = {{ port = 8000, protocol = \"tcp\" }} }}\n\
             ready = {{ tcp = true, port = \"http\", every_ms = 200 }}\n\
             on = [\"{host}\"]\n"
        );
    }
    let needs = servers.iter().map(|(name, _)| format!("\"{name}\""));
    let needs = needs.collect::<Vec<_>>().join(", ");
    text + &format!(
        "[automaton.caller]\ncommand = [\"sleep\", \"infinity\"]\non = [\"{caller_on}\"]\n\
         needs = [{needs}]\n"
    )
}

/// Waits until the caller fetches a page from a server by its name.
pub fn until_fetched(lab: &Lab, host: &str, name: &str) {
    let caller = lab.host(host);
    let mut error = String::new();
    let fetched = until("a page is fetched", SOON, || match fetch(caller, name) {
        Ok(_) => Ok(Some(())),
        Err(failed) => {
            error = format!("{failed:#}");
            Ok(None)
        }
    });
    let logs = || {
        let hosts = lab.topology().hosts();
        let logs = hosts.map(|node| {
            let host = lab.host(&node.name);
            format!("{}: {:?}\n{}", node.name, host.drops(), host.log_tail())
        });
        logs.collect::<Vec<_>>().join("\n")
    };
    assert!(fetched.is_ok(), "{name}: {error}\n{}", logs());
}

pub fn fetch(caller: &Host, name: &str) -> anyhow::Result<String> {
    let url = format!("http://{name}.matrix:8000/");
    caller.run(CALLER, &["curl", "-sS", "--max-time", "5", &url])
}

/// What `margay explain` says of a name.
pub fn explained(host: &Host, name: &str) -> String {
    let name = format!("{name}.matrix");
    let output = host.margay(&["explain", &name, "--as", CALLER]).output();
    String::from_utf8(output.unwrap().stdout).unwrap()
}

/// ```text
///   region north: site a (a-north-1, a-north-2), site b (b-north-1)      region south: site c (c-south-1)
/// ```
#[test]
fn names_are_flooded_in_a_site_summarised_in_a_region_and_looked_up_beyond() {
    let sites = "[site.\"a.north\"]\nhosts = 2\n[site.\"b.north\"]\nhosts = 1\n\
                 [site.\"c.south\"]\nhosts = 1\n";
    let lab = network(sites, "a-north-1", &[]);
    let servers = [
        ("near", "a-north-2"),
        ("middle", "b-north-1"),
        ("distant", "c-south-1"),
    ];
    let host = lab.host("a-north-1");
    host.apply(&composition("a-north-1", &servers)).unwrap();
    for (name, known) in [
        ("near", "flooded"),
        ("middle", "summarised"),
        ("distant", "looked up"),
    ] {
        until_fetched(&lab, "a-north-1", name);
        // Kademlia may know it before its gateway has summed it up: the next search finds it so.
        let said = until("it is known as it should be", SOON, || {
            fetch(host, name)?;
            Ok(explained(host, name).contains(known).then_some(()))
        });
        assert!(said.is_ok(), "{name}: {}", explained(host, name));
    }
}

/// ```text
///   paris-1: caller   paris-2: gateway   paris-3: founder        rome-1: server   rome-2: gateway
/// ```
#[test]
fn who_speaks_for_a_site_need_be_neither_client_nor_server_nor_founder() {
    let sites = "[site.paris]\nhosts = 3\n[site.rome]\nhosts = 2\n\
                 [link.backbone-rome]\nlatency_ms = 5\n";
    let lab = network(sites, "paris-3", &["paris-2", "rome-2"]);
    let host = lab.host("paris-3");
    let servers = [("far", "rome-1")];
    host.apply(&composition("paris-1", &servers)).unwrap();
    until_fetched(&lab, "paris-1", "far");
}

/// ```text
///   paris-1: caller   paris-2, paris-3: gateways     rome-1: server, gateway
/// ```
#[test]
fn gateways_may_die_one_after_the_other() {
    let sites = "[site.paris]\nhosts = 3\n[site.rome]\nhosts = 1\n";
    let lab = network(sites, "paris-1", &["paris-2", "paris-3", "rome-1"]);
    let names = ["one", "two", "three"];
    let servers = names.map(|name| (name, "rome-1"));
    let host = lab.host("paris-1");
    host.apply(&composition("paris-1", &servers)).unwrap();
    until_fetched(&lab, "paris-1", "one");
    lab.host("paris-2").kill_daemon().unwrap();
    until_fetched(&lab, "paris-1", "two");
    lab.start_member("paris-2").unwrap();
    lab.host("paris-3").kill_daemon().unwrap();
    until_fetched(&lab, "paris-1", "three");
}

#[test]
fn whole_network_may_start_again_at_once() {
    let sites = "[site.paris]\nhosts = 2\n[site.rome]\nhosts = 2\n";
    let lab = network(sites, "paris-1", &[]);
    let servers = [("near", "paris-2"), ("far", "rome-2")];
    let host = lab.host("paris-1");
    host.apply(&composition("paris-1", &servers)).unwrap();
    for (name, _) in servers {
        until_fetched(&lab, "paris-1", name);
    }
    let names: Vec<_> = lab.topology().hosts().map(|it| it.name.clone()).collect();
    for name in &names {
        lab.host(name).kill_daemon().unwrap();
    }
    for name in &names {
        lab.start_member(name).unwrap();
    }
    for (name, _) in servers {
        until_fetched(&lab, "paris-1", name);
    }
}

/// Whoever is not heard is held for down, even while it hears; and comes back.
#[test]
fn host_that_hears_nobody_is_missed_and_comes_back() {
    let sites = "[site.paris]\nhosts = 3\n";
    let lab = network(sites, "paris-1", &[]);
    let states = |wanted: &str| {
        for seer in ["paris-1", "paris-2"] {
            let seen = until("the others agree", SOON, || {
                let members = lab.host(seer).members()?;
                let member = members.iter().find(|it| it.name == "paris-3");
                Ok(member.filter(|it| it.state == wanted).map(drop))
            });
            assert!(seen.is_ok(), "{seer} does not hold paris-3 for {wanted}");
        }
    };
    states("up");
    let link = lab.link("paris-3-paris");
    link.cut_inwards().unwrap();
    states("down");
    link.heal().unwrap();
    states("up");
    link.cut_outwards().unwrap();
    states("down");
    link.heal().unwrap();
    states("up");
}

/// A service that is replaced on both sides of a partition is one again after it.
#[test]
fn sites_that_were_parted_agree_again() {
    let sites = "[site.paris]\nhosts = 1\n[site.rome]\nhosts = 1\n";
    let lab = network(sites, "paris-1", &[]);
    let servers = [("far", "rome-1")];
    let host = lab.host("paris-1");
    host.apply(&composition("paris-1", &servers)).unwrap();
    until_fetched(&lab, "paris-1", "far");
    let link = lab.link("backbone-rome");
    link.cut().unwrap();
    until("the other site is missed", SOON, || {
        Ok(fetch(host, "far").err().map(drop))
    })
    .unwrap();
    let later = composition("paris-1", &[("far", "rome-1"), ("new", "rome-1")]);
    host.apply(&later.replace("version = 1", "version = 2"))
        .unwrap();
    link.heal().unwrap();
    until_fetched(&lab, "paris-1", "far");
    until_fetched(&lab, "paris-1", "new");
}
