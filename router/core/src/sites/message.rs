//! What is asked and answered over the overlay: checked when it is read.

use super::drops::SitesDrop;
use crate::catalog::RECORD_BYTES_MAX;
use crate::host::HostId;
use crate::id::InstanceId;
use crate::name::AutomatonName;
use crate::overlay::OVERLAY_BYTES_MAX;
use crate::wire::margay::sites as wire;
use prost::Message;

/// The only form of messages so far.
pub(super) const VERSION: u32 = 1;

/// The most instances in one answer, as many as DNS answers with.
pub const FOUND_MAX: usize = 8;

/// How full an answer gets, with room for what stands around it.
pub(super) const FILLED_BYTES: usize = 48 << 10;

/// A service has fewer known instances than this, or the rest is asked about no more.
pub(super) const HELD_MAX: usize = 64;

/// How a service was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    Site,
    Summary,
    LookUp,
}

/// A host's word of an instance, not verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) origin: HostId,
    pub(super) record: Vec<u8>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Seek {
        service: AutomatonName,
        /// How often it may be passed on.
        passes: u32,
        held: Vec<InstanceId>,
    },
    Inventory {
        sum: Vec<u8>,
        after: String,
    },
    Fetch {
        name: String,
        offset: u32,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    Found { words: Vec<Word>, way: Way },
    Held(wire::Held),
    Piece(wire::Piece),
}

impl Question {
    pub(super) fn encode(&self) -> Vec<u8> {
        let what = match self {
            Question::Seek {
                service,
                passes,
                held,
            } => wire::question::What::Seek(wire::Seek {
                service: service.to_string(),
                passes: *passes,
                held: held.iter().take(HELD_MAX).map(|it| it.0).collect(),
            }),
            Question::Inventory { sum, after } => {
                wire::question::What::Inventory(wire::Inventory {
                    sum: sum.clone(),
                    after: after.clone(),
                })
            }
            Question::Fetch { name, offset } => wire::question::What::Fetch(wire::Fetch {
                name: name.clone(),
                offset: *offset,
            }),
        };
        let question = wire::Question {
            version: VERSION,
            what: Some(what),
        };
        question.encode_to_vec()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, SitesDrop> {
        let question: wire::Question = read(bytes)?;
        check_version(question.version)?;
        let question = match question.what.ok_or(SitesDrop::Unreadable)? {
            wire::question::What::Seek(seek) if seek.held.len() <= HELD_MAX => Question::Seek {
                service: name(seek.service)?,
                passes: seek.passes,
                held: seek.held.into_iter().map(InstanceId).collect(),
            },
            wire::question::What::Seek(_) => return Err(SitesDrop::Unreadable),
            wire::question::What::Inventory(it) => Question::Inventory {
                sum: it.sum,
                after: it.after,
            },
            wire::question::What::Fetch(it) => Question::Fetch {
                name: it.name,
                offset: it.offset,
            },
        };
        Ok(question)
    }
}

impl Answer {
    pub(super) fn encode(self) -> Vec<u8> {
        let what = match self {
            Answer::Found { words, way } => wire::answer::What::Found(wire::Found {
                instances: words.into_iter().map(Word::into_wire).collect(),
                way: match way {
                    Way::Site => wire::Way::Site.into(),
                    Way::Summary => wire::Way::Summary.into(),
                    Way::LookUp => wire::Way::LookUp.into(),
                },
            }),
            Answer::Held(held) => wire::answer::What::Held(held),
            Answer::Piece(piece) => wire::answer::What::Piece(piece),
        };
        let answer = wire::Answer {
            version: VERSION,
            what: Some(what),
        };
        answer.encode_to_vec()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, SitesDrop> {
        let answer: wire::Answer = read(bytes)?;
        check_version(answer.version)?;
        match answer.what.ok_or(SitesDrop::Unreadable)? {
            wire::answer::What::Found(found) => {
                let way = match found.way() {
                    wire::Way::Site => Way::Site,
                    wire::Way::Summary => Way::Summary,
                    wire::Way::LookUp => Way::LookUp,
                    wire::Way::Unknown => return Err(SitesDrop::Unreadable),
                };
                if found.instances.len() > FOUND_MAX {
                    return Err(SitesDrop::Unreadable);
                }
                let words: Result<_, _> = found.instances.into_iter().map(Word::read).collect();
                Ok(Answer::Found { words: words?, way })
            }
            wire::answer::What::Held(held) => Ok(Answer::Held(held)),
            wire::answer::What::Piece(piece) => Ok(Answer::Piece(piece)),
        }
    }
}

impl Word {
    pub(super) fn into_wire(self) -> wire::Origin {
        wire::Origin {
            host: self.origin.as_bytes().to_vec(),
            record: self.record,
        }
    }

    pub(super) fn read(origin: wire::Origin) -> Result<Self, SitesDrop> {
        if origin.record.len() > RECORD_BYTES_MAX {
            return Err(SitesDrop::Unreadable);
        }
        Ok(Word {
            origin: host(&origin.host)?,
            record: origin.record,
        })
    }
}

/// Reads a message of the overlay's length.
pub(super) fn read<M: Message + Default>(bytes: &[u8]) -> Result<M, SitesDrop> {
    if bytes.len() > OVERLAY_BYTES_MAX {
        return Err(SitesDrop::Unreadable);
    }
    M::decode(bytes).map_err(|_| SitesDrop::Unreadable)
}

pub(super) fn check_version(version: u32) -> Result<(), SitesDrop> {
    let known = version == VERSION;
    known.then_some(()).ok_or(SitesDrop::UnknownVersion)
}

/// Reads a public key.
pub(super) fn host(bytes: &[u8]) -> Result<HostId, SitesDrop> {
    let bytes = <[u8; 32]>::try_from(bytes).map_err(|_| SitesDrop::Unreadable)?;
    Ok(HostId::from_bytes(bytes))
}

/// Reads a service's name.
pub(super) fn name(text: String) -> Result<AutomatonName, SitesDrop> {
    text.try_into().map_err(|_| SitesDrop::Unreadable)
}
