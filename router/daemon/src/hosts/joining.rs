//! Joining a network: one question to the issuer that a token names, and its answer.

use super::errand::commit;
use super::founding::ensure_free;
use super::identity::Keys;
use super::wall_time;
use crate::journal::{Entry, MembershipRecord, Sponsor, random};
use crate::router_thread::now;
use crate::world::{World, lock};
use anyhow::{Context, Result, bail};
use margay_core::admission::{Membership, Token, ask_to_join, read_answer};
use margay_core::host::OriginEpoch;
use margay_core::name::HostName;
use margay_datapath::host_link::sealed::Statement;
use margay_datapath::host_link::socket::LinkSocket;
use margay_datapath::host_link::{
    self, HostLink, HostLinkConfig, HostLinkLimits, NetworkSecret, NoiseKey, Output,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;
use tokio::task::spawn_blocking;

/// Asks the issuer that `token` names to let this host in as `name`; the daemon starts again as a
/// member.
pub async fn join(world: &World, token: Token, name: HostName) -> Result<Value> {
    ensure_free(world).await?;
    let keys = Keys::read_or_make(&world.directories)?;
    let journal = world.journal.clone();
    let epoch = spawn_blocking(move || lock(&journal).raise_epoch()).await??;
    let (asked, asking) = (token.clone(), keys.clone());
    let answer = spawn_blocking(move || ask(&asked, &asking, &name, epoch)).await??;
    let credential = read_answer(answer.as_bytes())?;
    let known = Membership::new(token.network);
    let verified = credential.verify(token.network, known.revocations(), wall_time());
    let certificate = verified.context("what the issuer gave to this host does not hold")?;
    if certificate.host != keys.host.public() {
        bail!("the issuer gave to this host what is another host's; ask for a new token");
    }
    let block = certificate.blocks.first();
    let entry = Entry {
        network: token.network,
        name: certificate.name.clone(),
        site: certificate.site.clone(),
        roles: certificate.roles.clone(),
        block: *block.context("the issuer granted no addresses")?,
        issuer: None,
        sponsor: Some(Sponsor {
            host: token.issuer,
            link_key: token.link_key.0,
            addresses: token.addresses,
        }),
    };
    let said = format!(
        "this host is {} in network {}, with the addresses of {}",
        entry.name,
        entry.network.short(),
        entry.block
    );
    let entered = MembershipRecord::Entered(Box::new(entry), credential.to_bytes());
    commit(world, vec![entered])
        .await
        .context("this host has not joined")?;
    Ok(json!(said))
}

/// How long one address may leave us without an answer before the next is called, too: each answer is an
/// admission, and the issuer should have to make but one.
const CALL_NEXT: Duration = Duration::from_secs(1);

/// Asks the issuer that a token names.
fn ask(token: &Token, keys: &Keys, name: &HostName, epoch: OriginEpoch) -> Result<Statement> {
    let config = HostLinkConfig {
        private_key: keys.link.clone(),
        network: NetworkSecret(token.network.link_psk()),
        epoch,
        introduction: Statement::default(),
        limits: HostLinkLimits::default(),
    };
    let introduction = ask_to_join(&keys.host, keys.link_key(), token, name);
    let issuer = NoiseKey::from_bytes(token.link_key.0);
    call(
        config,
        issuer,
        &token.addresses,
        &Statement::new(introduction)?,
    )
}

/// Calls the issuer at its addresses, one after the other; the first answer counts.
fn call(
    config: HostLinkConfig,
    issuer: NoiseKey,
    addresses: &[SocketAddr],
    introduction: &Statement,
) -> Result<Statement> {
    let mut socket = LinkSocket::open_anywhere().context("cannot open a socket")?;
    let mut link = HostLink::new(config, random()?, now());
    let mut uncalled = addresses.iter();
    let mut call_at = now();
    loop {
        if call_at <= now()
            && let Some(to) = uncalled.next()
        {
            let introduce = host_link::Input::Introduce {
                to: *to,
                noise_key: issuer,
                introduction: introduction.clone(),
            };
            link.handle_input(introduce, now());
            call_at = now() + CALL_NEXT;
        }
        while let Some(output) = link.poll_output() {
            match output {
                Output::Transmit { to, datagram } => socket.send(to, &datagram),
                Output::Answered { answer, .. } => return Ok(answer),
                Output::Refused { reason, .. } => bail!("the issuer refuses this host: {reason}"),
                // Each address has its own patience, and none more than the others.
                _ => {}
            }
        }
        let next = (!uncalled.as_slice().is_empty()).then_some(call_at);
        let Some(due) = link.poll_timeout().into_iter().chain(next).min() else {
            let addresses = addresses.iter().map(ToString::to_string);
            bail!(
                "the issuer does not answer at {}; see that its daemon runs, that it has not a new \
                 key, and that UDP gets there",
                addresses.collect::<Vec<_>>().join(", ")
            );
        };
        wait(&socket, due.since(now()))?;
        while let Some((from, datagram)) = socket.receive()? {
            link.handle_input(host_link::Input::Received { from, datagram }, now());
        }
        link.handle_timeout(now());
    }
}

fn wait(socket: &LinkSocket, at_most: Duration) -> Result<()> {
    // Rounded up: waking early would only mean to wait once more.
    let patience = PollTimeout::try_from(at_most + Duration::from_millis(1));
    let mut waited = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    poll(&mut waited, patience.unwrap_or(PollTimeout::MAX)).context("cannot wait for an answer")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use margay_core::host::HostId;
    use margay_datapath::host_link::NoisePrivateKey;
    use std::net::Ipv4Addr;
    use std::thread::JoinHandle;

    fn config(number: u8) -> HostLinkConfig {
        HostLinkConfig {
            private_key: NoisePrivateKey::from_bytes([number; 32]),
            network: NetworkSecret([7; 32]),
            epoch: OriginEpoch(1),
            introduction: Statement::default(),
            limits: HostLinkLimits::default(),
        }
    }

    /// An issuer that admits whoever calls, until it is silent for a while; how often it did.
    fn issuer(mut socket: LinkSocket) -> JoinHandle<usize> {
        std::thread::spawn(move || {
            let mut link = HostLink::new(config(1), [1; 32], now());
            let mut admitted = 0;
            loop {
                let patience = PollTimeout::from(2_000u16);
                let mut waited = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
                if poll(&mut waited, patience).unwrap() == 0 {
                    return admitted;
                }
                while let Some((from, datagram)) = socket.receive().unwrap() {
                    link.handle_input(host_link::Input::Received { from, datagram }, now());
                }
                while let Some(output) = link.poll_output() {
                    match output {
                        Output::Transmit { to, datagram } => socket.send(to, &datagram),
                        Output::Introduced { exchange, .. } => {
                            admitted += 1;
                            let admit = host_link::Input::Admit {
                                exchange,
                                host: HostId::from_bytes([2; 32]),
                                answer: Statement::new(b"welcome".to_vec()).unwrap(),
                            };
                            link.handle_input(admit, now());
                        }
                        _ => {}
                    }
                }
            }
        })
    }

    /// Calls an issuer at these hosts; how often it admitted.
    fn admissions(hosts: &[Ipv4Addr]) -> usize {
        let socket = LinkSocket::open_anywhere().unwrap();
        let port = socket.port().unwrap();
        let issuer = issuer(socket);
        let addresses: Vec<_> = hosts
            .iter()
            .map(|it| SocketAddr::from((*it, port)))
            .collect();
        let key = config(1).private_key.public();
        let answer = call(config(2), key, &addresses, &Statement::default()).unwrap();
        assert_eq!(answer.as_bytes(), b"welcome");
        issuer.join().unwrap()
    }

    #[test]
    fn an_issuer_with_many_addresses_admits_once() {
        let hosts = [1, 2, 3].map(|host| Ipv4Addr::new(127, 0, 0, host));
        assert_eq!(admissions(&hosts), 1);
    }

    #[test]
    fn an_address_that_does_not_answer_keeps_nobody_out() {
        // Nothing that is sent to the first comes anywhere (RFC 6890).
        let hosts = [Ipv4Addr::new(240, 0, 0, 1), Ipv4Addr::LOCALHOST];
        assert_eq!(admissions(&hosts), 1);
    }
}
