//! The Router in a world that does as it is told.

mod admissions;
mod aggregates;
mod balancing;
mod between_hosts;
mod beyond_the_site;
mod binding;
mod deploying;
mod dishonest_hosts;
mod elsewhere;
mod explaining;
mod faults;
mod hosts;
mod kernel;
mod liveness;
mod neighbours;
mod observing;
mod random_walk;
mod recovering;
mod seeking;
mod targets;
mod telling;
mod trusting;
mod two_hosts;
mod unapplied;
mod unchosen;
mod universal;
mod upcalls;
mod vips;
mod withdrawing;
mod world;

/// A shopper who calls three web servers, which call a store; a stranger nobody needs.
const SHOP: &str = r#"
[composition]
name = "shop"
version = 1

[automaton.shopper]
command = ["sleep", "infinity"]
needs = ["web"]

[automaton.web]
command = ["nginx"]
replicas = 3
ports = { http = { port = 80, protocol = "tcp" }, quic = { port = 443, protocol = "udp" } }
needs = ["store"]

[automaton.store]
command = ["redis-server"]
ports = { redis = { port = 6379, protocol = "tcp" } }
affinity = "strict"

[automaton.stranger]
command = ["sleep", "infinity"]
"#;

/// The shop whose web servers are probed.
fn probed() -> String {
    let ready = "replicas = 3\nready = { tcp = true, port = \"http\" }";
    SHOP.replace("replicas = 3", ready)
}
