//! The command line's grammar.

use crate::flow_log::FlowLogLevel;
use crate::protocol::Kind;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use margay_core::sites::SUMMARY_BYTES_MAX;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Finds services by plain DNS and connects them inside the kernel.
#[derive(Debug, Parser)]
#[command(name = "margay", version, propagate_version = true)]
pub struct Cli {
    /// Where the daemon's sockets are.
    #[arg(long, global = true, value_name = "DIR", default_value = "/run/margay")]
    pub run: PathBuf,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

/// How the daemon runs.
#[derive(Clone, Debug, Args)]
pub struct UpOptions {
    /// How many flows may be live at once; stays as it is while the host is up.
    #[arg(long, value_name = "FLOWS", default_value_t = 131_072)]
    pub flows_max: u32,
    /// Decide every flow by itself; the kernel opens none by an earlier decision. Costs time.
    #[arg(long)]
    pub decide_every_flow: bool,
    /// Where the host's own programs and DNS servers may ask for .matrix, over UDP and TCP.
    #[arg(long, value_name = "ADDR:PORT")]
    pub resolver: Option<SocketAddr>,
    /// Where other hosts of the network reach this one: an address of this host and a UDP port; the
    /// port above it carries packets. Once for each address, all with one port.
    #[arg(long, value_name = "ADDR:PORT")]
    pub underlay: Vec<SocketAddr>,
    /// What a gateway keeps of what other sites say they serve; what does not fit is looked up.
    #[arg(long, value_name = "BYTES", default_value_t = SUMMARY_BYTES_MAX)]
    pub summary_bytes_max: usize,
    /// Where metrics are served over HTTP, to whoever asks; nowhere if it is not given.
    #[arg(long, value_name = "ADDR:PORT")]
    pub metrics: Option<SocketAddr>,
    /// What the flow log in the state directory holds: refused packets, or all flows too.
    #[arg(long, value_name = "WHAT", value_enum, default_value = "refused")]
    pub flow_log: FlowLogLevel,
}

/// What can be said to Margay.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon of this host in the foreground.
    Up {
        /// Where what must survive a reboot is kept.
        #[arg(long, value_name = "DIR", default_value = "/var/lib/margay")]
        state: PathBuf,
        #[command(flatten)]
        options: UpOptions,
    },
    /// End every instance and the daemon, and take away what they left in the kernel.
    Down,
    /// Apply a composition file.
    Apply {
        /// The file, or - for standard input.
        file: PathBuf,
    },
    /// Delete a composition and its instances.
    Delete {
        /// Its name.
        composition: String,
    },
    /// List instances.
    Ps {
        /// Those of other hosts too: all of this site, and what was found in others.
        #[arg(long)]
        all: bool,
    },
    /// List services.
    Services,
    /// List live flows with their counters.
    Flows {
        /// Print what happens to flows from now on instead, a line each.
        #[arg(long, short)]
        watch: bool,
    },
    /// Have an instance take no new flow, and wait until those that it serves have ended.
    Drain {
        /// The instance: 2.web, or web if there is only one.
        instance: String,
        /// Let it take new flows again.
        #[arg(long)]
        cancel: bool,
        /// Wait at most this long; it stays drained all the same.
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        wait: u64,
    },
    /// Count dropped and refused packets by reason.
    Drops,
    /// Ask for a name as an instance sees it.
    Resolve {
        /// The name, for example web.matrix, or an address.
        name: String,
        /// Who asks, for example 1.shopper; host: the host's own programs.
        #[arg(long = "as", value_name = "INSTANCE")]
        caller: String,
        /// The kind of record, if not addresses (or the name of an address).
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<Kind>,
    },
    /// Tell why a flow goes where it goes, or why not, and what to do next.
    Explain {
        /// A name (web.matrix, web.matrix:443/udp), an address (100.64.0.2:80) or a flow
        /// (tcp 100.96.0.1:4000 100.64.0.2:80, as `margay flows` prints it).
        #[arg(required = true, num_args = 1..)]
        target: Vec<String>,
        /// Who calls, for example 1.shopper.
        #[arg(long = "as", value_name = "INSTANCE")]
        caller: Option<String>,
    },
    /// Run a command inside an instance.
    Exec {
        /// The instance: 2.web, or web if there is only one.
        instance: String,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Print what an instance wrote.
    Logs {
        /// The instance: 2.web, or web if there is only one.
        instance: String,
        /// Keep printing as it writes.
        #[arg(long, short)]
        follow: bool,
        /// Print only the last lines.
        #[arg(long, short = 'n', value_name = "LINES")]
        lines: Option<usize>,
    },
    /// Found networks.
    Network {
        #[command(subcommand)]
        command: NetworkCommand,
    },
    /// Print a token by which hosts may join the network of this one.
    Invite {
        /// Where the hosts will be, for example paris.
        #[arg(long)]
        site: String,
        /// What they will do for others: gateway, issuer. Once for each.
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
        /// For how long the token can be used.
        #[arg(long, value_name = "TIME", default_value = "1h")]
        lifetime: humantime::Duration,
        /// By how many hosts.
        #[arg(long, value_name = "HOSTS", default_value_t = 1)]
        uses: u32,
    },
    /// Join a network; this host must run no composition, for its addresses become others.
    Join {
        /// What `margay invite` printed.
        token: String,
        /// What this host will be called; no other host of the network may be called so.
        #[arg(long, value_name = "HOST")]
        name: String,
    },
    /// Take a host out of the network.
    Revoke {
        /// Its name, or its ID.
        host: String,
    },
    /// List the hosts of the network, and the links to them.
    Members,
    /// Print every counter and size in the text format of OpenMetrics.
    Metrics,
    /// Tell how this host is.
    Status,
    /// Print what a shell completes command lines by.
    Completions {
        /// The shell: bash, zsh, fish, elvish or powershell.
        shell: Shell,
    },
    /// Write the manual pages, or print the first.
    Man {
        /// Where to; nowhere: print margay(1).
        #[arg(value_name = "DIR")]
        directory: Option<PathBuf>,
    },
}

/// What can be done with networks.
#[derive(Debug, Subcommand)]
pub enum NetworkCommand {
    /// Found a network with this host as its first, which admits others.
    Create {
        /// Where the root key is written; take it off the host afterwards, and keep it.
        #[arg(long, value_name = "FILE", default_value = "margay-root.key")]
        root: PathBuf,
        /// What this host will be called.
        #[arg(long, value_name = "HOST")]
        name: String,
        /// Where it is, for example paris.
        #[arg(long)]
        site: String,
    },
}
