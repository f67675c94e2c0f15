//! How statements and their keys are written and read, as `proto/catalog.proto` says.

use super::statement::{
    Binding, CREDENTIAL_BYTES_MAX, Generation, GivenBy, Identity, Instance, Key, PORTS_MAX,
    Service, ServiceVip, Statement,
};
use crate::address::{InstanceAddresses, VirtualIp};
use crate::composition::{Port, Transport};
use crate::host::HostId;
use crate::id::{InstanceId, Version};
use crate::wire::margay::catalog as wire;
use crate::wire::margay::signed::Signed;
use prost::Message;
use std::collections::BTreeMap;
use std::num::NonZeroU32;

/// The longest name of a port: a DNS label (RFC 1035 section 2.3.4), as in SRV.
const PORT_NAME_BYTES_MAX: usize = 63;

/// Writes what `origin` speaks about.
pub(super) fn write_key(origin: &HostId, key: &Key) -> Vec<u8> {
    let about = match key {
        Key::Host => wire::key::About::Host(wire::Nothing {}),
        Key::Instance(identity) => wire::key::About::Instance(write_identity(origin, identity)),
        Key::ServiceVip(service) => wire::key::About::ServiceVip(write_service(service)),
        Key::Binding(identity) => wire::key::About::Binding(write_identity(origin, identity)),
    };
    let key = wire::Key { about: Some(about) };
    key.encode_to_vec()
}

/// Reads what `origin` speaks about; `None` where it is unknown here, or written in a way in which
/// one thing would have two keys.
pub(super) fn read_key(origin: &HostId, bytes: &[u8]) -> Option<Key> {
    let key = match wire::Key::decode(bytes).ok()?.about? {
        wire::key::About::Host(wire::Nothing {}) => Key::Host,
        wire::key::About::Instance(it) => Key::Instance(read_identity(origin, it)?),
        wire::key::About::ServiceVip(it) => Key::ServiceVip(read_service(Some(it))?),
        wire::key::About::Binding(it) => Key::Binding(read_identity(origin, it)?),
    };
    (write_key(origin, &key) == bytes).then_some(key)
}

/// Writes a statement, without what its key says already.
pub(super) fn write_body(statement: &Statement) -> Vec<u8> {
    let content = match statement {
        Statement::Host { credential } => wire::body::Content::Host(wire::Host {
            credential: credential.clone(),
        }),
        Statement::Instance(instance) => wire::body::Content::Instance(write_instance(instance)),
        Statement::ServiceVip(it) => wire::body::Content::ServiceVip(wire::ServiceVip {
            v4: it.vip.v4.octets().to_vec(),
            v6: it.vip.v6.octets().to_vec(),
            version: it.version.0,
        }),
        Statement::Binding(binding) => wire::body::Content::Binding(wire::Binding {
            generation: binding.generation.0,
            given_by: binding.given_by.as_ref().map(|given| wire::GivenBy {
                from: given.from.as_bytes().to_vec(),
                transfer: given.transfer.encode_to_vec(),
            }),
        }),
    };
    let body = wire::Body {
        content: Some(content),
    };
    body.encode_to_vec()
}

/// Reads a statement about `key`; `None` where it is unknown here, breaks a bound, or speaks about
/// something else.
pub(super) fn read_body(key: &Key, bytes: &[u8]) -> Option<Statement> {
    let content = wire::Body::decode(bytes).ok()?.content?;
    match (key, content) {
        (Key::Host, wire::body::Content::Host(wire::Host { credential })) => {
            let fits = credential.len() <= CREDENTIAL_BYTES_MAX;
            fits.then_some(Statement::Host { credential })
        }
        (Key::Instance(identity), wire::body::Content::Instance(it)) => {
            read_instance(*identity, it).map(Statement::Instance)
        }
        (Key::ServiceVip(service), wire::body::Content::ServiceVip(it)) => {
            Some(Statement::ServiceVip(ServiceVip {
                service: service.clone(),
                vip: read_vip(&it.v4, &it.v6)?,
                version: Version(it.version),
            }))
        }
        (Key::Binding(identity), wire::body::Content::Binding(it)) => {
            let given_by = it.given_by.map(read_given_by);
            Some(Statement::Binding(Binding {
                identity: *identity,
                generation: Generation(it.generation),
                given_by: match given_by {
                    Some(given_by) => Some(given_by?),
                    None => None,
                },
            }))
        }
        _ => None,
    }
}

/// Writes an identity in full, as it stands in a transfer.
pub(super) fn write_whole_identity(identity: &Identity) -> wire::Identity {
    wire::Identity {
        born_at: identity.born_at.as_bytes().to_vec(),
        number: identity.number.0,
    }
}

/// Reads a public key.
pub(super) fn read_host(bytes: &[u8]) -> Option<HostId> {
    <[u8; 32]>::try_from(bytes).ok().map(HostId::from_bytes)
}

fn write_identity(origin: &HostId, identity: &Identity) -> wire::Identity {
    let mut written = write_whole_identity(identity);
    if identity.born_at == *origin {
        written.born_at.clear();
    }
    written
}

fn read_identity(origin: &HostId, identity: wire::Identity) -> Option<Identity> {
    let born_at = if identity.born_at.is_empty() {
        *origin
    } else {
        read_host(&identity.born_at)?
    };
    Some(Identity {
        born_at,
        number: InstanceId(identity.number),
    })
}

fn write_service(service: &Service) -> wire::Service {
    wire::Service {
        composition: service.composition.to_string(),
        automaton: service.automaton.to_string(),
    }
}

fn read_service(service: Option<wire::Service>) -> Option<Service> {
    let service = service?;
    Some(Service {
        composition: service.composition.try_into().ok()?,
        automaton: service.automaton.try_into().ok()?,
    })
}

fn write_instance(instance: &Instance) -> wire::Instance {
    let InstanceAddresses { called, caller } = instance.addresses;
    let port = |(name, port): (&String, &Port)| wire::Port {
        name: name.clone(),
        port: port.port.into(),
        transport: match port.protocol {
            Transport::Tcp => wire::Transport::Tcp.into(),
            Transport::Udp => wire::Transport::Udp.into(),
        },
    };
    wire::Instance {
        service: Some(write_service(&instance.service)),
        version: instance.version.0,
        called_v4: called.v4.octets().to_vec(),
        called_v6: called.v6.octets().to_vec(),
        caller_v4: caller.v4.octets().to_vec(),
        caller_v6: caller.v6.octets().to_vec(),
        ports: instance.ports.iter().map(port).collect(),
        takes_flows: instance.takes_flows,
        weight: instance.weight,
        flows: instance.flows,
        processor: instance.processor,
        ordinal: instance.ordinal.get(),
        generation: instance.generation.0,
    }
}

fn read_instance(identity: Identity, it: wire::Instance) -> Option<Instance> {
    if it.ports.len() > PORTS_MAX {
        return None;
    }
    let ports: Option<BTreeMap<String, Port>> = it.ports.into_iter().map(read_port).collect();
    Some(Instance {
        identity,
        service: read_service(it.service)?,
        ordinal: NonZeroU32::new(it.ordinal)?,
        version: Version(it.version),
        addresses: InstanceAddresses {
            called: read_vip(&it.called_v4, &it.called_v6)?,
            caller: read_vip(&it.caller_v4, &it.caller_v6)?,
        },
        ports: ports?,
        takes_flows: it.takes_flows,
        weight: it.weight,
        flows: it.flows,
        processor: it.processor,
        generation: Generation(it.generation),
    })
}

fn read_port(port: wire::Port) -> Option<(String, Port)> {
    if port.name.is_empty() || port.name.len() > PORT_NAME_BYTES_MAX {
        return None;
    }
    let protocol = match port.transport() {
        wire::Transport::Tcp => Transport::Tcp,
        wire::Transport::Udp => Transport::Udp,
        wire::Transport::Unknown => return None,
    };
    let number = u16::try_from(port.port).ok()?;
    Some((
        port.name,
        Port {
            port: number,
            protocol,
        },
    ))
}

fn read_vip(v4: &[u8], v6: &[u8]) -> Option<VirtualIp> {
    Some(VirtualIp {
        v4: <[u8; 4]>::try_from(v4).ok()?.into(),
        v6: <[u8; 16]>::try_from(v6).ok()?.into(),
    })
}

fn read_given_by(given_by: wire::GivenBy) -> Option<GivenBy> {
    Some(GivenBy {
        from: read_host(&given_by.from)?,
        transfer: Signed::decode(given_by.transfer.as_slice()).ok()?,
    })
}

#[cfg(test)]
mod tests;
