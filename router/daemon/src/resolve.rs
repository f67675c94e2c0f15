//! Asking for a name by hand, as an instance would be answered.

use crate::protocol::Kind;
use crate::router_thread::now;
use margay_core::id::InstanceId;
use margay_core::names::{Answer, NamesSnapshot, Question, QuestionKind, reverse_name};
use serde_json::{Value, json};
use std::net::IpAddr;

/// What an operator calls the host's own programs.
pub const HOST: &str = "host";

/// What `caller` is answered for `name`, which may be an address; without `kind`, both families of
/// addresses, or an address's name.
pub fn answer(
    names: &NamesSnapshot,
    caller: (InstanceId, String),
    name: &str,
    kind: Option<Kind>,
) -> Value {
    let (caller, caller_name) = caller;
    let addr: Option<IpAddr> = name.parse().ok();
    let asked = match addr {
        Some(addr) => reverse_name(addr),
        None => name.trim_end_matches('.').to_ascii_lowercase(),
    };
    let kinds = match (kind, addr) {
        (Some(kind), _) => vec![kind.into()],
        (None, Some(_)) => vec![QuestionKind::Ptr],
        (None, None) => vec![QuestionKind::A, QuestionKind::Aaaa],
    };
    let (mut addresses, mut records, mut problem) = (Vec::new(), Vec::new(), None);
    for kind in kinds {
        let name = asked.clone();
        let question = Question { name, kind };
        let answer = margay_core::names::answer(names, caller, &question, fresh_draw());
        // Who asks by hand reads what is known, and sees by `margay explain` that it is sought.
        match answer.at_once().0 {
            found @ (Answer::V4(_) | Answer::V6(_)) => addresses.extend(found.records()),
            Answer::NoData(_, error) => problem = error.map(|error| error.text),
            Answer::NameError(_, error) | Answer::Refused(error) => problem = Some(error.text),
            Answer::Elsewhere => {
                problem = Some("the host's own DNS servers are asked for this name")
            }
            other => records.extend(other.records()),
        }
    }
    json!({
        "name": name,
        "caller": caller_name,
        "addresses": addresses,
        "records": records,
        "problem": problem,
    })
}

impl From<Kind> for QuestionKind {
    fn from(kind: Kind) -> QuestionKind {
        match kind {
            Kind::A => QuestionKind::A,
            Kind::Aaaa => QuestionKind::Aaaa,
            Kind::Srv => QuestionKind::Srv,
            Kind::Txt => QuestionKind::Txt,
            Kind::Ptr => QuestionKind::Ptr,
            Kind::Soa => QuestionKind::Soa,
            Kind::Ns => QuestionKind::Ns,
        }
    }
}

/// A draw for the balancer: whoever asks by hand shall see the order change, too.
fn fresh_draw() -> u64 {
    now().as_nanos() >> 10
}
