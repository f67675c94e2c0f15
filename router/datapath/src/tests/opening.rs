//! What is missing is named at start.

use super::lab::{Lab, config, in_own_namespaces, ip};
use crate::datapath::Datapath;
use crate::object::{DatapathConfig, OpenError};
use crate::pins::PinError;
use aya::maps::{Array, Map, MapData};
use nix::mount::{MsFlags, mount};
use std::path::{Path, PathBuf};

fn open_error(config: &DatapathConfig) -> OpenError {
    match Datapath::open(config) {
        Ok(_) => panic!("opened"),
        Err(error) => error,
    }
}

fn with_tap() -> DatapathConfig {
    ip("link add tap-stand-in type veth peer name tap-end");
    config()
}

fn cover_with_tmpfs(path: &str) {
    let nothing: Option<&str> = None;
    mount(Some("none"), path, Some("tmpfs"), MsFlags::empty(), nothing).unwrap();
}

#[test]
fn a_directory_that_is_no_bpffs_is_refused_with_what_to_do() {
    in_own_namespaces(|| {
        cover_with_tmpfs("/mnt");
        let mut config = with_tap();
        config.pin_dir = PathBuf::from("/mnt/margay");
        let error = open_error(&config);
        assert!(matches!(&error, OpenError::Pins(PinError::NotBpffs { .. })));
        assert!(error.to_string().contains("mount -t bpf bpf /mnt/margay"));
    });
}

#[test]
fn a_kernel_without_type_information_is_named() {
    in_own_namespaces(|| {
        let config = with_tap();
        cover_with_tmpfs("/sys/kernel/btf");
        let error = open_error(&config);
        assert!(matches!(&error, OpenError::NoBtf));
        assert!(error.to_string().contains("CONFIG_DEBUG_INFO_BTF"));
    });
}

/// `struct __user_cap_header_struct` and two `struct __user_cap_data_struct`, all empty.
fn drop_capabilities_of_this_thread() {
    const LINUX_CAPABILITY_VERSION_3: u32 = 0x2008_0522;
    let header = [LINUX_CAPABILITY_VERSION_3, 0];
    let none = [0u32; 6];
    // SAFETY: both pointers are to arrays of the sizes that version 3 reads.
    let done = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
    assert_eq!(done, 0);
}

#[test]
fn a_process_without_the_right_is_told_so() {
    in_own_namespaces(|| {
        let config = with_tap();
        drop_capabilities_of_this_thread();
        assert!(matches!(open_error(&config), OpenError::NotPermitted(_)));
    });
}

#[test]
fn pins_of_another_size_are_refused() {
    in_own_namespaces(|| {
        drop(Lab::new());
        let mut config = config();
        config.flows_max *= 2;
        let error = open_error(&config);
        assert!(matches!(
            &error,
            OpenError::Pins(PinError::LayoutDiffers { .. })
        ));
        assert!(error.to_string().contains("map flows"), "{error}");
    });
}

fn write_version(version: u32) {
    let path = config().pin_dir.join("layout_version");
    let map = Map::from_map_data(MapData::from_pin(path).unwrap()).unwrap();
    let mut versions: Array<_, u32> = Array::try_from(map).unwrap();
    versions.set(0, version, 0).unwrap();
}

#[test]
fn pins_of_another_version_are_refused() {
    in_own_namespaces(|| {
        drop(Lab::new());
        write_version(999);
        let error = open_error(&config());
        assert!(error.to_string().contains("layout version 999"), "{error}");
    });
}

#[test]
fn a_missing_pin_is_not_replaced_in_silence() {
    in_own_namespaces(|| {
        drop(Lab::new());
        std::fs::remove_file(config().pin_dir.join("slots")).unwrap();
        let error = open_error(&config());
        assert!(error.to_string().contains("map slots is missing"));
    });
}

/// The version is written last; without it, nothing was ever in use.
#[test]
fn a_start_that_died_half_way_is_begun_anew() {
    in_own_namespaces(|| {
        drop(Lab::new());
        write_version(0);
        let mut other_size = config();
        other_size.flows_max *= 2;
        Datapath::open(&other_size).unwrap();
    });
}

#[test]
fn a_bpffs_itself_can_hold_the_pins() {
    in_own_namespaces(|| {
        let mut config = with_tap();
        config.pin_dir = PathBuf::from("/sys/fs/bpf");
        drop(Datapath::open(&config).unwrap());
        Datapath::unpin(&config.pin_dir).unwrap();
        let left = Path::new("/sys/fs/bpf").read_dir().unwrap();
        let names = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(names.filter(|name| !name.contains('.')).count(), 0);
    });
}
