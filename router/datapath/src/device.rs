//! Names of network devices, as the kernel has them now.

use nix::net::if_::if_indextoname;

/// The name of the device with this index in the calling thread's namespace, if there is one.
pub fn name_of(ifindex: u32) -> Option<String> {
    let name = if_indextoname(ifindex).ok()?.to_string_lossy().into_owned();
    // nix 0.30 answers an empty name where the C library answers that there is none.
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_device_that_exists_has_a_name() {
        assert_eq!(name_of(1).as_deref(), Some("lo"));
        assert_eq!(name_of(i32::MAX as u32), None);
    }
}
