//! An instance that is busy with something else, or serves nobody, beside siblings that do.

use crate::world::{ECHO_PORT, SEEN_MAX, Talk, composition, furnish, instance, until_ready};
use margay_tests::lab::{Host, PLACE, until};

/// Connections in a row that must keep away from the busy instance.
const AWAY: usize = 60;

/// Three echo servers that are balanced by load, of which the second burns a processor.
fn uneven() -> String {
    let plain = format!("command = [\"/usr/bin/python3\", \"{PLACE}/echo.py\", \"{ECHO_PORT}\"]");
    let busy = format!(
        "replicas = 3\nbalance = \"least-load\"\ncommand = [\"sh\", \"-c\", '''\
         if test \"$(hostname)\" = 2.echo; then (while :; do :; done) & fi; \
         exec /usr/bin/python3 {PLACE}/echo.py {ECHO_PORT}''']"
    );
    let text = composition("");
    assert!(text.contains(&plain));
    text.replace(&plain, &busy)
}

#[test]
fn flows_keep_away_from_an_instance_that_burns_the_processor() {
    let host = Host::without_daemon().unwrap();
    furnish(&host);
    host.start_daemon().unwrap();
    host.apply(&uneven()).unwrap();
    until_ready(&host, &["1.echo", "2.echo", "3.echo", "1.caller"]);
    let busy = instance(&host, "2.echo");
    let mut client = Talk::client(&host, "1.caller");
    let mut away = 0;
    until("its use of the processor counts", SEEN_MAX, || {
        let opened = client.ask(&format!("open echo.matrix {ECHO_PORT}"));
        let avoided = !busy.is_called(opened.parse()?);
        away = if avoided { away + 1 } else { 0 };
        Ok((away == AWAY).then_some(()))
    })
    .unwrap();
}

/// Three echo servers without probes, of which the second never listens.
fn deaf() -> String {
    let plain = format!("command = [\"/usr/bin/python3\", \"{PLACE}/echo.py\", \"{ECHO_PORT}\"]");
    let deaf = format!(
        "replicas = 3\ncommand = [\"sh\", \"-c\", '''\
         if test \"$(hostname)\" = 2.echo; then exec sleep infinity; fi; \
         exec /usr/bin/python3 {PLACE}/echo.py {ECHO_PORT}''']"
    );
    let text = composition("").replace(&plain, &deaf);
    let probe = "ready = { tcp = true, port = \"echo\", every_ms = 200 }";
    assert!(text.contains(probe) && text.contains("2.echo"));
    text.replace(probe, "")
}

#[test]
fn instance_that_refuses_connections_is_ejected_and_its_siblings_take_them() {
    let host = Host::without_daemon().unwrap();
    furnish(&host);
    host.start_daemon().unwrap();
    host.apply(&deaf()).unwrap();
    until_ready(&host, &["1.echo", "2.echo", "3.echo", "1.caller"]);
    let address = instance(&host, "2.echo").called_v4.to_string();
    let mut client = Talk::client(&host, "1.caller");
    let mut refused = 0;
    until("it is ejected", SEEN_MAX, || {
        let opened = client.ask(&format!("open {address} {ECHO_PORT}"));
        refused += u32::from(opened.contains("ConnectionRefusedError"));
        Ok((instance(&host, "2.echo").state == "ejected").then_some(()))
    })
    .unwrap();
    assert!(refused >= 5, "{refused}");
    assert_eq!(client.ask(&format!("open {address} {ECHO_PORT}")), address);
    client.echoes("from-a-sibling");
}
