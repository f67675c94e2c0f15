//! Every instance of a service dead, then back.

use crate::world::{
    ECHO_PORT, SEEN_MAX, Talk, composition, dropped, furnish, instance, shell, until_ready,
};
use margay_tests::lab::{Host, Instance, PLACE, until};

/// What refuses at once takes far less; what waits for a time-out takes seconds.
const AT_ONCE_SECONDS_MAX: f64 = 1.0;

const NAMES: [&str; 3] = ["1.echo", "2.echo", "3.echo"];

/// Three echo servers that do not start while the file `plague` exists.
fn three() -> String {
    let plain = format!("command = [\"/usr/bin/python3\", \"{PLACE}/echo.py\", \"{ECHO_PORT}\"]");
    let mortal = format!(
        "replicas = 3\ncommand = [\"sh\", \"-c\", \"test -e {PLACE}/plague && exit 1; \
         exec /usr/bin/python3 {PLACE}/echo.py {ECHO_PORT}\"]"
    );
    let text = composition("");
    assert!(text.contains(&plain));
    text.replace(&plain, &mortal)
}

fn echo(host: &Host) -> Vec<Instance> {
    let mut instances = host.instances().unwrap();
    instances.retain(|it| it.is_of("echo"));
    instances
}

/// Fails unless `said` tells of `error`, and of little time.
fn failed_at_once(said: &str, error: &str) {
    let seconds = said.strip_prefix("failed after ");
    let seconds = seconds.and_then(|rest| rest.split_once(" s: "));
    let (seconds, told) = seconds.unwrap_or_else(|| panic!("it did not fail: {said}"));
    assert!(
        seconds.parse::<f64>().unwrap() < AT_ONCE_SECONDS_MAX,
        "{said}"
    );
    assert!(told.contains(error), "{said}");
}

#[test]
fn service_without_any_instance_refuses_at_once_and_serves_again_when_one_is_back() {
    let host = Host::without_daemon().unwrap();
    furnish(&host);
    host.start_daemon().unwrap();
    host.apply(&three()).unwrap();
    until_ready(&host, &NAMES);
    let mut client = Talk::connected(&host, "1.caller");
    let names = client.ask("names echo.matrix");
    let addresses: Vec<String> = names.split(' ').map(String::from).collect();
    assert_eq!(addresses.len(), 6, "{names}");
    let before = dropped(&host, "no_instance");

    host.write("plague", "").unwrap();
    for it in echo(&host) {
        host.kill(it.pid.unwrap()).unwrap();
    }
    until("nobody is ready", SEEN_MAX, || {
        Ok(echo(&host).iter().all(|it| !it.ready).then_some(()))
    })
    .unwrap();

    failed_at_once(&client.ask("say anybody"), "Connection");
    failed_at_once(&client.ask("names echo.matrix"), "gaierror");
    for address in &addresses {
        let said = client.ask(&format!("open {address} {ECHO_PORT}"));
        failed_at_once(&said, "ConnectionRefusedError");
    }
    let refused = dropped(&host, "no_instance") - before;
    assert!(refused >= addresses.len() as u64, "{refused} were counted");
    assert!(instance(&host, "1.echo").problem.is_some());

    shell(&host, &format!("rm {PLACE}/plague"));
    until("somebody is back", SEEN_MAX, || {
        Ok(echo(&host).iter().any(|it| it.ready).then_some(()))
    })
    .unwrap();
    // Each address leads to whoever is there, its own holder or a sibling.
    for address in &addresses {
        let opened = client.ask(&format!("open {address} {ECHO_PORT}"));
        assert_eq!(&opened, address);
        client.echoes("back");
    }
    until_ready(&host, &NAMES);
    assert_eq!(client.ask("names echo.matrix"), names);
}
