//! Destination NAT as service meshes of today do it, with many services beside the measured one.

use crate::bench::conditions::SERVER_PORT;
use crate::bench::namespace::Namespace;
use anyhow::{Context as _, Result};
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::process::Command;

/// The address at which clients call the measured service.
pub const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

/// First address of the other services.
const OTHER_SERVICES: Ipv4Addr = Ipv4Addr::new(10, 100, 0, 1);

/// Loads an nftables map of `services` services; returns the version of the program.
pub fn load_nft(router: &Namespace, services: u32, server: Ipv4Addr) -> Result<String> {
    router.run(
        Command::new("nft").args(["-f", "-"]),
        &nft_rules(services, server),
    )?;
    version("nft")
}

/// Loads iptables rules for `services` services; returns the version of the program.
pub fn load_iptables(router: &Namespace, services: u32, server: Ipv4Addr) -> Result<String> {
    let rules = iptables_rules(services, server);
    router.run(&mut Command::new("iptables-restore"), &rules)?;
    version("iptables")
}

/// One rule and one map: a new flow costs one look-up, however many services there are.
fn nft_rules(services: u32, server: Ipv4Addr) -> String {
    let mut rules = String::from(
        "table ip bench {\n\
         map services {\n\
         type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service\n\
         elements = {\n",
    );
    for service in service_addresses(services) {
        for protocol in protocols(service) {
            let ends = format!("{service} . {protocol} . {SERVER_PORT} : {server} . {SERVER_PORT}");
            // Writing to a string does not fail.
            let _ = writeln!(rules, "{ends},");
        }
    }
    rules.push_str(
        "}\n}\n\
         chain prerouting {\n\
         type nat hook prerouting priority dstnat;\n\
         dnat ip to ip daddr . ip protocol . th dport map @services\n\
         }\n}\n",
    );
    rules
}

/// One rule a service and protocol, walked in order by each new flow. The measured service stands
/// in the middle: what an average service of that many costs.
fn iptables_rules(services: u32, server: Ipv4Addr) -> String {
    let mut addresses: Vec<Ipv4Addr> = service_addresses(services).collect();
    let middle = addresses.len() / 2;
    addresses.swap(0, middle);
    let mut rules =
        String::from("*nat\n:PREROUTING ACCEPT\n:SERVICES -\n-A PREROUTING -j SERVICES\n");
    for service in addresses {
        for protocol in protocols(service) {
            let matched =
                format!("-d {service}/32 -p {protocol} -m {protocol} --dport {SERVER_PORT}");
            let target = format!("-j DNAT --to-destination {server}:{SERVER_PORT}");
            let _ = writeln!(rules, "-A SERVICES {matched} {target}");
        }
    }
    rules.push_str("COMMIT\n");
    rules
}

/// The measured service, then the others.
fn service_addresses(services: u32) -> impl Iterator<Item = Ipv4Addr> {
    let others = (0..services.saturating_sub(1))
        .map(|other| Ipv4Addr::from_bits(OTHER_SERVICES.to_bits() + other));
    std::iter::once(SERVICE).chain(others)
}

/// The measured service has both protocols, the others one.
fn protocols(service: Ipv4Addr) -> &'static [&'static str] {
    if service == SERVICE {
        &["tcp", "udp"]
    } else {
        &["tcp"]
    }
}

fn version(program: &str) -> Result<String> {
    let output = Command::new(program).arg("--version").output();
    let output = output.with_context(|| format!("ask {program} for its version"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

    #[test]
    fn the_map_holds_every_service_once() {
        let rules = nft_rules(10_000, SERVER);
        assert_eq!(
            rules.matches(" . tcp . 7000 : 10.0.2.2 . 7000,").count(),
            10_000
        );
        assert_eq!(rules.matches(" . udp . 7000 : ").count(), 1);
    }

    #[test]
    fn the_measured_service_stands_in_the_middle_of_the_rules() {
        let rules = iptables_rules(10_000, SERVER);
        let services: Vec<&str> = rules
            .lines()
            .filter(|line| line.starts_with("-A SERVICES") && line.contains("tcp"))
            .collect();
        assert_eq!(services.len(), 10_000);
        let measured = services
            .iter()
            .position(|line| line.contains("10.96.0.1/32"));
        assert_eq!(measured, Some(5_000));
    }

    #[test]
    fn one_service_is_the_measured_one() {
        let rules = iptables_rules(1, SERVER);
        assert_eq!(rules.matches("-A SERVICES").count(), 2);
        assert_eq!(rules.matches("-A SERVICES -d 10.96.0.1/32").count(), 2);
    }
}
