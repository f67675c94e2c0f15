//! The host's packet filter, as far as instances need it that reach the outside: their packets leave
//! under the host's address, and only answers come back.

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

/// The table; a network namespace holds one host. Made anew each time: whoever reloads the host's
/// rules takes it away.
const TABLE: &str = "\
add table ip margay
add set ip margay callers { type ipv4_addr; }
add chain ip margay leave { type nat hook postrouting priority srcnat; }
flush chain ip margay leave
add rule ip margay leave ip saddr @callers ip daddr != @callers masquerade
add chain ip margay enter { type filter hook postrouting priority filter; }
flush chain ip margay enter
add rule ip margay enter ip daddr @callers ct state != { established, related } drop
";

/// Why the host's packet filter is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum OutsideError {
    /// There is no nft.
    #[error("`egress = \"all\"` needs the program nft: {0}; install the package nftables")]
    NoProgram(#[source] io::Error),
    /// It did not do as told.
    #[error("nft refused Margay's rules: {0}; does the kernel have nf_tables, nat and conntrack?")]
    Refused(String),
}

/// Lets the instance that calls from `caller` reach the outside.
pub fn let_out(caller: Ipv4Addr) -> Result<(), OutsideError> {
    nft(&format!(
        "{TABLE}add element ip margay callers {{ {caller} }}\n"
    ))
}

/// Undoes [`let_out`]; an error means that nobody is let out any more.
pub fn keep_in(caller: Ipv4Addr) -> Result<(), OutsideError> {
    nft(&format!(
        "delete element ip margay callers {{ {caller} }}\n"
    ))
}

/// Takes all of Margay's rules away, if there are any: where there is no nft, there are none. The table
/// is declared first, so that none to delete is no error.
pub fn clear() -> Result<(), OutsideError> {
    match nft("add table ip margay\ndelete table ip margay\n") {
        Err(OutsideError::NoProgram(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        cleared => cleared,
    }
}

/// Has nft do all that `script` says, or nothing.
fn nft(script: &str) -> Result<(), OutsideError> {
    let mut command = Command::new("nft");
    command.args(["-f", "-"]).stdin(Stdio::piped());
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(OutsideError::NoProgram)?;
    let mut input = child.stdin.take().expect("it was piped");
    let written = input.write_all(script.as_bytes());
    drop(input);
    let output = child.wait_with_output().map_err(OutsideError::NoProgram)?;
    if written.is_err() || !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(OutsideError::Refused(said));
    }
    Ok(())
}
