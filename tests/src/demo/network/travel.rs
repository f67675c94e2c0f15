//! The second part's world: a network of two sites, and a composition whose parts are spread over it.

use super::super::{Report, chapter, tell};
use crate::lab::{Host, Lab, Topology, until};
use anyhow::{Context, Result, bail};
use std::time::{Duration, Instant};

/// The host of the instance that calls.
pub(super) const CLIENT: &str = "paris-1";

/// The host of the instance that is called in the other site.
pub(super) const SERVER: &str = "rome-1";

/// Who speaks for each site.
pub(super) const GATEWAYS: [&str; 2] = ["paris-2", "rome-2"];

/// Who founded the network, and applies compositions.
pub(super) const FOUNDER: &str = "paris-3";

/// The instance that calls.
pub(super) const SHOPPER: &str = "1.shopper";

/// How long the network may take to know what was applied, on a busy machine.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// Everything that the steps work with.
pub(super) struct Travel {
    /// The hosts.
    pub(super) lab: Lab,
}

impl Travel {
    /// Makes five hosts one network, and waits until the shopper knows every name.
    pub(super) fn open(report: &mut Report) -> Result<Travel> {
        chapter("Five hosts in two sites become one network");
        let topology = match Topology::parse(include_str!("sites.toml")) {
            Ok(topology) => topology,
            Err(mistakes) => bail!("the demo's topology: {mistakes}"),
        };
        let began = Instant::now();
        let lab = Lab::without_daemons(&topology)?;
        lab.found_network(FOUNDER, roles)?;
        let travel = Travel { lab };
        for host in topology.hosts() {
            let host = travel.lab.find_host(&host.name)?;
            host.write("page/index.html", "a page\n")?;
            host.write("ping.py", include_str!("ping.py"))?;
            host.write("ask.py", include_str!("ask.py"))?;
        }
        tell(format!(
            "founded, invited and joined in {:.1} s",
            began.elapsed().as_secs_f64()
        ));
        report.hosts = u32::try_from(topology.hosts().count())?;
        report.sites = 2;
        let founder = travel.lab.find_host(FOUNDER)?;
        founder.apply(include_str!("travel.toml"))?;
        for name in ["web.matrix", "store.matrix"] {
            let answer = travel.until_known(name)?;
            tell(format!("{SHOPPER} on {CLIENT}: {name} is {answer}"));
        }
        Ok(travel)
    }

    /// The client's host.
    pub(super) fn client(&self) -> Result<&Host> {
        self.lab.find_host(CLIENT)
    }

    /// Asks from inside the shopper until a name has an address; that address.
    pub(super) fn until_known(&self, name: &str) -> Result<String> {
        let client = self.client()?;
        let known = until("a name is known", SETTLED_WITHIN, || {
            let answer = client.run(SHOPPER, &["getent", "ahostsv4", name]);
            let answer = answer.ok();
            Ok(answer.and_then(|it| it.split_whitespace().next().map(str::to_owned)))
        });
        known.with_context(|| format!("{name}: {}", client.log_tail()))
    }
}

fn roles(host: &str) -> &'static [&'static str] {
    match GATEWAYS.contains(&host) {
        true => &["gateway"],
        false => &[],
    }
}
