//! TCX links: a program on a device, pinned, so that it stays when the process goes.

use crate::device;
use crate::object::{FROM_INSTANCE, FROM_PEER, FROM_ROUTER, program, program_of};
use crate::pins::{PinError, Pins, remove_file};
use aya::Ebpf;
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType};
use aya::sys::SyscallError;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use thiserror::Error;

/// Why a program is not on its device.
#[derive(Debug, Error)]
pub enum AttachError {
    /// There is no such device in this network namespace.
    #[error("there is no device with index {ifindex}")]
    NoSuchDevice {
        /// The device.
        ifindex: u32,
    },
    /// The kernel refused.
    #[error("cannot attach {program} to {device}: TCX needs Linux 6.6 or later")]
    Attach {
        /// The program.
        program: &'static str,
        /// The device or the pin of its link.
        device: String,
        /// What went wrong.
        source: Box<ProgramError>,
    },
    /// The link cannot be pinned, opened or unpinned.
    #[error("cannot pin the link {link}")]
    Pin {
        /// Name of the pin.
        link: String,
        /// What went wrong.
        source: io::Error,
    },
    /// The directory of pins is unusable.
    #[error(transparent)]
    Pins(#[from] PinError),
}

/// What a device is to us. Its links are pinned by the device's index, which a network namespace
/// does not give out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The host side of an instance's veth.
    Instance,
    /// The upcall TAP.
    Upcall,
    /// A device by which other hosts are reached.
    Underlay,
}

impl Role {
    const ALL: [Role; 3] = [Role::Instance, Role::Upcall, Role::Underlay];

    fn program(self) -> &'static str {
        match self {
            Role::Instance => FROM_INSTANCE,
            Role::Upcall => FROM_ROUTER,
            Role::Underlay => FROM_PEER,
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Role::Instance => "instance-",
            Role::Upcall => "upcall-",
            Role::Underlay => "underlay-",
        }
    }

    fn pin_name(self, ifindex: u32) -> String {
        format!("{}{ifindex}", self.prefix())
    }
}

/// The links of instances' devices: from any thread, for the kernel takes milliseconds to make one.
#[derive(Debug)]
pub struct InstanceLinks {
    pins: Pins,
    program: Mutex<SchedClassifier>,
}

impl InstanceLinks {
    /// Takes the program of a loaded object.
    pub(crate) fn new(ebpf: &Ebpf, pins: &Pins) -> Result<Self, ProgramError> {
        let loaded = program_of(ebpf, FROM_INSTANCE).info()?;
        let program = SchedClassifier::from_program_info(loaded, FROM_INSTANCE.into())?;
        Ok(InstanceLinks {
            pins: pins.clone(),
            program: Mutex::new(program),
        })
    }

    /// Puts the program on the host side of an instance's veth; it lets nothing pass until the device
    /// is an endpoint's. To repeat it changes nothing. Waits for the kernel, and for its turn.
    pub fn attach(&self, ifindex: u32) -> Result<(), AttachError> {
        let mut program = self.program.lock().unwrap_or_else(PoisonError::into_inner);
        attach(&mut program, &self.pins, Role::Instance, ifindex)
    }

    /// The devices that have the program.
    pub fn attached(&self) -> Result<Vec<u32>, AttachError> {
        let names = self.pins.links()?;
        let devices = names
            .iter()
            .filter_map(|name| name.strip_prefix(Role::Instance.prefix())?.parse().ok());
        Ok(devices.collect())
    }

    /// Takes the program off a device; one without it is success. The device must be gone or down:
    /// without the program, its packets would reach the host.
    pub fn detach(&self, ifindex: u32) -> Result<(), AttachError> {
        let name = Role::Instance.pin_name(ifindex);
        remove_file(&self.pins.link(&name))
            .map_err(|source| AttachError::Pin { link: name, source })
    }
}

/// Puts the role's program on a device, before all others; a pinned link gets it in one step,
/// without a packet passing in between.
pub(crate) fn attach(
    classifier: &mut SchedClassifier,
    pins: &Pins,
    role: Role,
    ifindex: u32,
) -> Result<(), AttachError> {
    let name = role.pin_name(ifindex);
    let path = pins.link(&name);
    if replace(classifier, role, &path)? {
        return Ok(());
    }
    let device = device::name_of(ifindex).ok_or(AttachError::NoSuchDevice { ifindex })?;
    let first = TcAttachOptions::TcxOrder(LinkOrder::first());
    let refused = |source: ProgramError| AttachError::Attach {
        program: role.program(),
        device: device.clone(),
        source: Box::new(source),
    };
    let id = classifier
        .attach_with_options(&device, TcAttachType::Ingress, first)
        .map_err(refused)?;
    let link: FdLink = classifier
        .take_link(id)
        .map_err(refused)?
        .try_into()
        .map_err(|error: LinkError| unpinned(&name, error))?;
    link.pin(&path).map_err(|error| unpinned(&name, error))?;
    Ok(())
}

/// Takes the role's program off every device but one.
pub(crate) fn detach_others(pins: &Pins, role: Role, ifindex: u32) -> Result<(), AttachError> {
    let kept = role.pin_name(ifindex);
    for name in pins.links()? {
        if name.starts_with(role.prefix()) && name != kept {
            remove_file(&pins.link(&name))
                .map_err(|source| AttachError::Pin { link: name, source })?;
        }
    }
    Ok(())
}

/// Replaces the programs of an earlier run by those of this one, on every device.
pub(crate) fn refresh(ebpf: &mut Ebpf, pins: &Pins) -> Result<(), AttachError> {
    for name in pins.links()? {
        for role in Role::ALL {
            if name.starts_with(role.prefix())
                && !replace(program(ebpf, role.program()), role, &pins.link(&name))?
            {
                tracing::info!(link = name, "its device is gone");
            }
        }
    }
    Ok(())
}

/// Replaces the program of a pinned link; answers whether there was a live one. The pin of a link
/// whose device is gone is removed.
fn replace(classifier: &mut SchedClassifier, role: Role, path: &Path) -> Result<bool, AttachError> {
    let pinned = match PinnedLink::from_pin(path) {
        Err(LinkError::SyscallError(SyscallError { io_error, .. }))
            if io_error.kind() == io::ErrorKind::NotFound =>
        {
            return Ok(false);
        }
        pinned => pinned.map_err(|error| unpinned(&path.to_string_lossy(), error))?,
    };
    let link = SchedClassifierLink::try_from(FdLink::from(pinned))
        .map_err(|error| unpinned(&path.to_string_lossy(), error))?;
    match classifier.attach_to_link(link) {
        Ok(id) => {
            // Dropping our descriptor leaves the pin.
            drop(classifier.take_link(id));
            Ok(true)
        }
        Err(ProgramError::SyscallError(SyscallError { io_error, .. }))
            if io_error.raw_os_error() == Some(libc::ENOLINK) =>
        {
            remove_file(path).map_err(|error| unpinned(&path.to_string_lossy(), error))?;
            Ok(false)
        }
        Err(source) => Err(AttachError::Attach {
            program: role.program(),
            device: path.to_string_lossy().into_owned(),
            source: Box::new(source),
        }),
    }
}

fn unpinned<E>(link: &str, error: E) -> AttachError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    AttachError::Pin {
        link: link.to_owned(),
        source: io::Error::other(error),
    }
}
