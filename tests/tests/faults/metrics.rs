//! Metrics while things happen: from the control socket, and over HTTP for whoever scrapes.

use crate::world::{
    ECHO_PORT, Talk, dropped, furnish, instance, margay, populate, said, text, until_ready,
};
use margay_tests::lab::{Host, PLACE};

/// Where the host serves its metrics, inside its own network.
const ADDRESS: &str = "127.0.0.1:9465";

const STRANGER: &str = r#"
[automaton.stranger]
command = ["sleep", "infinity"]
"#;

/// Asks as a scraper does: the status and the page; `nonsense` is no HTTP.
const SCRAPE: &str = r#"
import socket, sys, urllib.error, urllib.request
try:
    if sys.argv[2] == "nonsense":
        daemon = socket.create_connection(sys.argv[1].rsplit(":", 1), timeout=20)
        daemon.sendall(b"\x00\x01\r\n\r\n")
        print(daemon.makefile().read())
    else:
        answer = urllib.request.urlopen("http://" + sys.argv[1] + sys.argv[2], timeout=20)
        print(answer.status, answer.headers["Content-Type"])
        print(answer.read().decode())
except urllib.error.HTTPError as error:
    print(error.code)
"#;

fn scrape(host: &Host, path: &str) -> String {
    said(host, &["/usr/bin/python3", "-c", SCRAPE, ADDRESS, path])
}

/// The value of the metric whose name and labels are `metric`.
fn value(page: &str, metric: &str) -> u64 {
    let line = page.lines().find_map(|line| line.strip_prefix(metric));
    let value = line.unwrap_or_else(|| panic!("no {metric} in\n{page}"));
    value.trim().parse().unwrap()
}

#[test]
fn metrics_tell_the_same_as_the_commands_over_socket_and_http() {
    let host = Host::without_daemon().unwrap();
    furnish(&host);
    host.start_daemon_with(&["--metrics", ADDRESS]).unwrap();
    populate(&host, STRANGER);
    until_ready(&host, &["1.stranger"]);
    let _client = Talk::connected(&host, "1.caller");
    let path = format!("{PLACE}/client.py");
    let mut stranger = Talk::start(host.exec("1.stranger", &["/usr/bin/python3", &path]));
    let to = instance(&host, "1.echo").called_v4;
    let answer = stranger.ask(&format!("open {to} {ECHO_PORT}"));
    assert!(answer.starts_with("failed"), "{answer}");

    let scraped = scrape(&host, "/metrics");

    assert!(
        scraped.starts_with("200 application/openmetrics-text"),
        "{scraped}"
    );
    assert!(scraped.trim_end().ends_with("# EOF"), "{scraped}");
    let printed = margay(&host, &["metrics"]);
    assert!(printed.status.success(), "{}", text(&printed));
    for page in [scraped, text(&printed)] {
        let refused = "margay_drops_total{reason=\"not_permitted\",by=\"core\"}";
        assert_eq!(value(&page, refused), dropped(&host, "not_permitted"));
        assert!(value(&page, "margay_flows") >= 1);
        assert_eq!(value(&page, "margay_instances{state=\"ready\"}"), 3);
        assert_eq!(
            value(&page, "margay_instance_restarts_total{instance=\"1.echo\"}"),
            0
        );
        assert!(value(&page, "margay_upcalls") >= 2);
        assert!(value(&page, "margay_dns_queries_udp_total") >= 1);
        assert!(value(&page, "margay_resident_memory_bytes{process=\"keeper\"}") > 100_000);
    }
    assert_eq!(scrape(&host, "/elsewhere").trim(), "404");
    assert!(scrape(&host, "nonsense").contains("400"));
}

#[test]
fn address_that_the_host_does_not_have_is_said_at_start() {
    let host = Host::without_daemon().unwrap();
    let refused = host.start_daemon_with(&["--metrics", "192.0.2.1:80"]);
    assert!(refused.is_err());
    assert!(
        host.log_tail()
            .contains("cannot serve metrics at 192.0.2.1:80")
    );
}
