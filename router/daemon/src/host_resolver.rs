//! The address at which the host's own programs and DNS servers may ask for names.

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use margay_core::names::NamesSnapshot;
use margay_resolver::{Searches, serve_host};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

/// Bound sockets that nobody answers on yet.
pub struct HostResolver {
    udp: tokio::net::UdpSocket,
    tcp: tokio::net::TcpListener,
}

impl HostResolver {
    /// Binds `addr` on both transports, before anything of the host is touched.
    pub fn bind(addr: SocketAddr) -> Result<HostResolver> {
        let problem = || {
            format!(
                "cannot answer DNS at {addr}; does another resolver listen there? `--resolver` takes \
                 any address of this host, 127.53.53.53:53 for example"
            )
        };
        let udp = UdpSocket::bind(addr).with_context(problem)?;
        let tcp = TcpListener::bind(addr).with_context(problem)?;
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        Ok(HostResolver {
            udp: tokio::net::UdpSocket::from_std(udp)?,
            tcp: tokio::net::TcpListener::from_std(tcp)?,
        })
    }

    /// Answers from `names`, whichever snapshot is the latest, for as long as the runtime lives, and has
    /// services sought by `searches`.
    pub fn serve(self, names: Arc<ArcSwap<NamesSnapshot>>, searches: Searches) {
        tokio::spawn(async move {
            if let Err(error) = serve_host(names, searches, self.udp, self.tcp).await {
                tracing::error!(%error, "the host's own resolver ended; restart the daemon");
            }
        });
    }
}
