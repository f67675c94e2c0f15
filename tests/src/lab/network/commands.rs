//! What the lab has the system's own tools do in a node's network namespace.

use crate::lab::namespaces::Namespaces;
use anyhow::{Context, Result, ensure};
use std::io::Write;
use std::process::{Command, Stdio};

impl Namespaces {
    /// Has `ip` do each line; it sees processes by the numbers that we see.
    pub(super) fn ip(&self, lines: &[String]) -> Result<()> {
        let mut command = self.network_command("ip");
        command.args(["-batch", "-"]);
        run(command, &(lines.join("\n") + "\n"))
    }

    /// Has `nft` do a script, all of it or nothing.
    pub(super) fn nft(&self, script: &str) -> Result<()> {
        let mut command = self.network_command("nft");
        command.args(["-f", "-"]);
        run(command, script)
    }

    /// Has a shell do a script.
    pub(super) fn shell(&self, script: &str) -> Result<()> {
        let mut command = self.network_command("sh");
        command.args(["-eu", "-s"]);
        run(command, script)
    }
}

fn run(mut command: Command, input: &str) -> Result<()> {
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    command.stdout(Stdio::null());
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    let mut stdin = child.stdin.take().context("its input is a pipe")?;
    // Whoever stops reading says why on its way out.
    stdin.write_all(input.as_bytes()).ok();
    drop(stdin);
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?} failed: {}, given:\n{input}",
        said.trim_end()
    );
    Ok(())
}

/// The script by which a router hides all behind its address on `interface`, and lets nobody in
/// from there who was not called.
pub(super) fn masquerade(interface: &str) -> String {
    format!(
        "nft -f - <<'NFT'
table inet lab {{
    chain postrouting {{
        type nat hook postrouting priority srcnat;
        oifname \"{interface}\" masquerade
    }}
    chain forward {{
        type filter hook forward priority filter;
        iifname \"{interface}\" ct state new drop
    }}
}}
NFT
"
    )
}
