//! Tests of reading a composition: what good files mean and what wrong ones are told.

use super::*;
use crate::composition::{Port, Probe, Readiness, Transport};
use proptest::prelude::*;
use std::time::Duration;

const SHOP: &str = r#"[composition]
name = "shop"
version = 3

[automaton.web]
command = ["nginx", "-c", "/etc/shop/nginx.conf"]
replicas = 3
ports = { http = { port = 80, protocol = "tcp" } }
needs = ["store"]
ready = { http = "/health", port = "http", every_ms = 250 }
affinity = "strict"
balance = "two-choices"
env = { LANG = "C" }
user = "www-data"

[automaton.store]
command = ["redis-server"]
ports = { redis = { port = 6379, protocol = "tcp" }, gossip = { port = 6379, protocol = "udp" } }
ready = { tcp = true, port = "redis" }

[automaton.shopper]
command = ["sleep", "infinity"]
needs = ["web"]
ready = { command = ["true"], timeout_ms = 50 }
"#;

/// What `shop.toml` is told once `from` stands there as `to`.
fn told(from: &str, to: &str) -> String {
    assert!(SHOP.contains(from), "{from} is not in the example");
    let text = SHOP.replacen(from, to, 1);
    Composition::parse(&text)
        .unwrap_err()
        .render("shop.toml", &text)
}

#[test]
fn good_file_means_what_it_says() {
    let shop = Composition::parse(SHOP).unwrap();
    assert_eq!((shop.name.as_str(), shop.version), ("shop", Version(3)));
    let names: Vec<_> = shop.automatons.keys().map(AutomatonName::as_str).collect();
    assert_eq!(names, ["shopper", "store", "web"]);
    let tcp = |port| Port {
        port,
        protocol: Transport::Tcp,
    };
    let web = Automaton {
        command: ["nginx", "-c", "/etc/shop/nginx.conf"]
            .map(String::from)
            .to_vec(),
        environment: [("LANG".to_owned(), "C".to_owned())].into(),
        user: Some("www-data".to_owned()),
        replicas: 3,
        ports: [("http".to_owned(), tcp(80))].into(),
        needs: ["store".parse().unwrap()].into(),
        ready: Some(Readiness {
            probe: Probe::Http {
                port: 80,
                path: "/health".to_owned(),
            },
            every: Duration::from_millis(250),
            timeout: Duration::from_secs(1),
        }),
        affinity: Affinity::Strict,
        balance: Balance::TwoChoices,
        answer: Answering::Instances,
        alive: None,
        egress: Egress::None,
        drain: DRAIN,
        weights: Vec::new(),
        slow_start: Duration::ZERO,
        on: Vec::new(),
    };
    assert_eq!(shop.automatons["web"], web);
    let probe = |name: &str| shop.automatons[name].ready.clone().unwrap();
    assert_eq!(probe("store").probe, Probe::Tcp { port: 6379 });
    assert_eq!(
        probe("shopper").probe,
        Probe::Command(vec!["true".to_owned()])
    );
    assert_eq!(probe("shopper").timeout, Duration::from_millis(50));
}

#[test]
fn host_may_need_what_the_same_file_declares() {
    let with_host = |needs: &str| format!("{SHOP}[host]\nneeds = [{needs}]\n");
    let shop = Composition::parse(&with_host("\"web\"")).unwrap();
    assert_eq!(shop.host_needs, ["web".parse().unwrap()].into());
    assert!(Composition::parse(SHOP).unwrap().host_needs.is_empty());
    let text = with_host("\"wbe\"");
    let error = Composition::parse(&text).unwrap_err().to_string();
    assert!(error.contains("no automaton is called `wbe`"), "{error}");
    assert!(error.contains("did you mean `web`?"), "{error}");
}

#[test]
fn what_is_left_out_has_its_default() {
    let text = "[composition]\nname = \"a\"\nversion = 1\n[automaton.b]\ncommand = [\"c\"]\n";
    let b = Composition::parse(text).unwrap().automatons["b"].clone();
    assert_eq!(
        (b.replicas, b.affinity, b.balance),
        (1, Affinity::Prefer, Balance::RoundRobin)
    );
    assert_eq!((b.ready, b.user, b.drain), (None, None, DRAIN));
    assert!(b.ports.is_empty() && b.needs.is_empty() && b.environment.is_empty());
}

#[test]
fn how_flows_are_balanced_is_read() {
    let keys = "balance = \"maglev\"\nweights = [1000, 1]\nslow_start_ms = 5000\ndrain_ms = 0";
    let text = SHOP.replace("balance = \"two-choices\"", keys);
    let web = Composition::parse(&text).unwrap().automatons["web"].clone();
    let weights: Vec<u32> = web.weights.iter().map(|weight| weight.get()).collect();
    assert_eq!((web.balance, weights), (Balance::Maglev, vec![1_000, 1]));
    assert_eq!(
        (web.slow_start, web.drain),
        (Duration::from_secs(5), Duration::ZERO)
    );
}

#[test]
fn when_a_program_counts_as_hung_is_read() {
    let alive = |keys: &str| {
        let text = SHOP.replace("affinity = \"strict\"", &format!("alive = {{ {keys} }}"));
        let web = Composition::parse(&text).unwrap().automatons["web"].clone();
        web.alive.unwrap()
    };
    let plain = alive("tcp = true, port = \"http\"");
    assert_eq!(plain.asked.probe, Probe::Tcp { port: 80 });
    assert_eq!(
        (plain.asked.every, plain.failures),
        (Duration::from_secs(5), 3)
    );
    let full = alive("command = [\"true\"], every_ms = 100, timeout_ms = 50, failures = 1");
    let times = (full.asked.every.as_millis(), full.asked.timeout.as_millis());
    assert_eq!((times, full.failures), ((100, 50), 1));
}

/// Slips in the example, each as the line that goes, the one that comes, and what is then told.
const WRONG_FILES: &str = include_str!("wrong_files.txt");

#[test]
fn wrong_files_are_told_what_where_and_what_to_do() {
    let slips: Vec<_> = WRONG_FILES.split("\n========\n\n").collect();
    for slip in &slips {
        let marked = |mark: &str| {
            let lines = slip.lines().filter_map(|line| line.strip_prefix(mark));
            lines.collect::<Vec<_>>().join("\n")
        };
        let (_, expected) = slip.split_at(slip.find("error: ").unwrap());
        assert_eq!(told(&marked("- "), &marked("+ ")), expected, "{slip}");
    }
    assert_eq!(slips.len(), 45);
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_text() {
    let text = SHOP
        .replace("version = 3", "version = 0")
        .replace("replicas = 3", "replica = 3")
        .replace("needs = [\"web\"]", "needs = [\"wbe\"]");
    let error = Composition::parse(&text).unwrap_err();
    let places: Vec<_> = error
        .mistakes()
        .iter()
        .map(|one| (one.line, one.column))
        .collect();
    assert_eq!(places, [(3, 11), (7, 1), (23, 10)]);
    assert_eq!(
        error.to_string(),
        "line 3, column 11: `version` is 0; expected a whole number from 1 up\n\
         line 7, column 1: automaton `web` has no key `replica`; expected `command`, `replicas`, \
         `ports`, `needs`, `ready`, `alive`, `affinity`, `balance`, `answer`, `egress`, `weights`, `slow_start_ms`, `drain_ms`, `env`, `user` or `on` (did you mean `replicas`?)\n\
         line 23, column 10: no automaton is called `wbe`; expected `shopper`, `store` or `web` (did you mean \
         `web`?)"
    );
    assert_eq!(error.mistakes()[1].found, "replica");
}

#[test]
fn huge_files_are_refused_before_they_are_read() {
    let error = Composition::parse(&"#".repeat(TEXT_BYTES_MAX + 1)).unwrap_err();
    assert_eq!(error.mistakes().len(), 1);
    assert!(
        error.to_string().contains("the file has 1048577 bytes"),
        "{error}"
    );
}

#[test]
fn mistakes_are_bounded() {
    let many: String = (0..500).map(|n| format!("key{n} = 1\n")).collect();
    assert_eq!(Composition::parse(&many).unwrap_err().mistakes().len(), 32);
}

#[test]
fn carets_count_characters_and_keep_tabs() {
    let text =
        "[composition]\nname = \"a\"\nversion = 1\n[automaton.b]\n\tcommand = [\"é\"]\tuser = 1\n";
    let rendered = Composition::parse(text).unwrap_err().render("a.toml", text);
    assert!(
        rendered.contains("\n  | \t               \t^"),
        "{rendered}"
    );
}

#[test]
fn terminal_is_not_steered_by_a_file() {
    let text = "[composition]\nname = \"\\u001b[2J\"\nversion = 1\n\u{1b}[automaton.b]\n";
    let error = Composition::parse(text).unwrap_err();
    assert!(!error.render("a.toml", text).contains('\u{1b}'));
    let text = "[composition]\n\"na\\u001bme\" = 1\n";
    let error = Composition::parse(text).unwrap_err();
    assert!(!error.render("a.toml", text).contains('\u{1b}'), "{error}");
    assert!(!error.to_string().contains('\u{1b}'));
}

proptest! {
    #[test]
    fn every_mutilated_file_is_read_or_told_where_it_is_wrong(
        at in 0..SHOP.len(), cut in 0usize..40, put in "[ -~\n\té]{0,6}",
    ) {
        let end = (at + cut).min(SHOP.len());
        let text = format!("{}{put}{}", &SHOP[..at], &SHOP[end..]);
        if let Err(error) = Composition::parse(&text) {
            let rendered = error.render("shop.toml", &text);
            prop_assert!(!error.mistakes().is_empty());
            for mistake in error.mistakes() {
                let line = text.split('\n').nth(mistake.line - 1).unwrap();
                prop_assert!(mistake.column <= line.chars().count() + 1, "{}", rendered);
                prop_assert!(line.contains(&mistake.found), "{}", rendered);
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        if let Err(error) = Composition::parse(&text) {
            error.render("shop.toml", &text);
        }
    }
}
