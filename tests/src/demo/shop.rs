//! The demo's world: a daemon, the shop's instances, a stranger, and small clients of two libcs.

use super::{chapter, tell};
use crate::lab::programs::{Libc, compile};
use crate::lab::{Host, Instance, PLACE};
use anyhow::{Context, Result, ensure};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// The services of the shop, by the names that programs ask for.
pub(super) const NAMES: [&str; 3] = ["web.matrix", "store.matrix", "files.matrix"];

/// The instance that calls.
pub(super) const SHOPPER: &str = "1.shopper";

/// The instance that may call nobody.
pub(super) const STRANGER: &str = "1.stranger";

/// How long all instances may take to be ready, on a busy machine.
const READY_MAX: Duration = Duration::from_secs(40);

/// What the file server hands out.
const GREETING: &str = "a file of the shop\n";

/// Everything that the steps work with.
pub(super) struct Shop<'a> {
    /// The host.
    pub(super) host: &'a Host,
    /// The web server's replicas, in the order of their numbers.
    pub(super) web: Vec<Instance>,
    instances: Vec<Instance>,
}

impl<'a> Shop<'a> {
    /// Starts the daemon, applies both compositions and waits until every instance is ready.
    pub(super) fn open(host: &'a Host) -> Result<Shop<'a>> {
        chapter("A host in namespaces of its own, with unmodified programs");
        host.start_daemon()?;
        host.write("nginx.conf", include_str!("nginx.conf"))?;
        host.write("files/index.html", GREETING)?;
        host.write("load.sh", include_str!("load.sh"))?;
        host.write("hold.py", include_str!("hold.py"))?;
        host.write("late.py", include_str!("late.py"))?;
        for libc in Libc::ALL {
            compile(host, "fetch", include_str!("fetch.c"), libc)?;
        }
        host.apply(include_str!("shop.toml"))?;
        host.apply(include_str!("strangers.toml"))?;
        let mut instances = host.until_ready(READY_MAX)?;
        instances.sort_by(|a, b| a.name.cmp(&b.name));
        for it in &instances {
            tell(format!(
                "{:<10} {:<15} {}",
                it.name, it.called_v4, it.called_v6
            ));
        }
        let web: Vec<Instance> = instances
            .iter()
            .filter(|it| it.is_of("web"))
            .cloned()
            .collect();
        ensure!(web.len() == 3, "three web replicas were asked for: {web:?}");
        let shop = Shop {
            host,
            web,
            instances,
        };
        shop.greet()?;
        Ok(shop)
    }

    /// Waits until every instance is ready again.
    pub(super) fn until_ready(&self) -> Result<()> {
        self.host.until_ready(READY_MAX).map(|_| ())
    }

    /// Whether `addr` is one that others call an instance of `automaton` by.
    pub(super) fn calls(&self, automaton: &str, addr: IpAddr) -> bool {
        self.instances
            .iter()
            .any(|it| it.is_of(automaton) && it.is_called(addr))
    }

    /// Which web replica answered with `body`, by its place in [`Shop::web`].
    pub(super) fn replica(&self, body: &str) -> Result<usize> {
        let said = || format!("`{}` is no web replica's address", body.trim());
        let addr: IpAddr = body.trim().parse().with_context(said)?;
        self.web
            .iter()
            .position(|it| it.is_called(addr))
            .with_context(said)
    }

    /// The path of the small client that is linked with `libc`.
    pub(super) fn fetch(libc: Libc) -> String {
        format!("{PLACE}/bin/fetch-{}", libc.name())
    }

    /// Shows that redis and Python's server take part.
    fn greet(&self) -> Result<()> {
        let pong = self
            .host
            .run(SHOPPER, &["redis-cli", "-h", "store.matrix", "PING"])?;
        ensure!(pong.trim() == "PONG", "redis answered {pong:?}");
        let url = "http://files.matrix:8000/";
        let file = self
            .host
            .run(SHOPPER, &["curl", "-sS", "--max-time", "10", url])?;
        ensure!(file == GREETING, "the file server answered {file:?}");
        tell(format!(
            "redis-cli says {}, python3 -m http.server hands out its file",
            pong.trim()
        ));
        Ok(())
    }
}

/// The path of a file that the demo wrote into the host.
pub(super) fn inside(name: &str) -> String {
    Path::new(PLACE).join(name).display().to_string()
}
