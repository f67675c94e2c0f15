//! What a newcomer and a member ask of an issuer, and what is answered.

use crate::admission::certificate::{Credential, host_from_wire, opened, same_network};
use crate::admission::introduction::{LinkKey, link_key_from_wire, read};
use crate::admission::network::NetworkId;
use crate::admission::refusal::{Reason, Refusal, VERSION, check_version};
use crate::admission::token::{Secret, Token, TokenId};
use crate::host::HostId;
use crate::name::HostName;
use crate::signature::{PrivateKey, Purpose};
use crate::wire::margay::admission as wire;
use prost::Message;

const JOIN_REQUEST: Purpose = Purpose("join request");

/// The longest answer, in bytes: a credential at its largest, and room for later fields.
pub const ANSWER_BYTES_MAX: usize = 1_000;

/// That a host would like to join; its signature was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JoinRequest {
    /// Which host.
    pub host: HostId,
    /// The name that it would like to have.
    pub name: HostName,
    /// By which invitation.
    pub token: TokenId,
    pub(super) secret: Secret,
}

/// Makes the introduction of a newcomer that shows its token.
///
/// It holds the token's secret: it may be sent to nobody but the issuer, whose link key the token
/// says.
pub fn ask_to_join(key: &PrivateKey, link_key: LinkKey, token: &Token, name: &HostName) -> Vec<u8> {
    let request = wire::JoinRequest {
        network: token.network.root().as_bytes().to_vec(),
        token: token.id.0.to_vec(),
        secret: token.secret.as_bytes().to_vec(),
        host: key.public().as_bytes().to_vec(),
        link_key: link_key.0.to_vec(),
        name: name.to_string(),
    };
    let introduction = wire::Introduction {
        version: VERSION,
        who: Some(wire::introduction::Who::Newcomer(
            key.sign(JOIN_REQUEST, &request),
        )),
    };
    introduction.encode_to_vec()
}

impl JoinRequest {
    /// Reads the introduction of a newcomer to `network` that came by the host link of `link_key`.
    pub fn open(
        introduction: &[u8],
        network: NetworkId,
        link_key: LinkKey,
    ) -> Result<JoinRequest, Refusal> {
        let wire::introduction::Who::Newcomer(signed) = read(introduction)? else {
            return Err(Refusal::Unreadable(
                "a member's introduction is no join request",
            ));
        };
        let unreadable = |_| Refusal::Unreadable(JOIN_REQUEST.0);
        let claimed = wire::JoinRequest::decode(signed.content.as_slice());
        let host = host_from_wire(&claimed.map_err(unreadable)?.host)?;
        let request: wire::JoinRequest = opened(JOIN_REQUEST, &host, &signed)?;
        same_network(&request.network, network)?;
        if link_key_from_wire(&request.link_key)? != link_key {
            return Err(Refusal::OtherLinkKey);
        }
        let token = request.token.as_slice().try_into();
        let secret = Secret::from_bytes(&request.secret);
        Ok(JoinRequest {
            host,
            name: request
                .name
                .parse()
                .map_err(|_| Refusal::Unreadable("a host's name"))?,
            token: TokenId(token.map_err(|_| Refusal::Unreadable("a token's ID"))?),
            secret: secret.ok_or(Refusal::Unreadable("a token's secret"))?,
        })
    }
}

/// What a member sends to its issuer to have its certificate renewed.
pub fn ask_to_renew() -> Vec<u8> {
    wire::RenewalRequest { version: VERSION }.encode_to_vec()
}

/// Checks a request to renew; who asks, the host link says.
pub fn read_renewal_request(bytes: &[u8]) -> Result<(), Refusal> {
    if bytes.len() > ANSWER_BYTES_MAX {
        return Err(Refusal::Unreadable(
            "a renewal request of more than 1,000 bytes",
        ));
    }
    let message = wire::RenewalRequest::decode(bytes);
    let message = message.map_err(|_| Refusal::Unreadable("a renewal request"))?;
    check_version(message.version)
}

/// What an issuer answers to a newcomer, and to a request to renew.
pub fn answer(what: Result<&Credential, Reason>) -> Vec<u8> {
    let what = match what {
        Ok(credential) => wire::answer::What::Credential(credential.to_wire()),
        Err(reason) => wire::answer::What::Refused(reason.number()),
    };
    let answer = wire::Answer {
        version: VERSION,
        what: Some(what),
    };
    answer.encode_to_vec()
}

/// Why an answer brings no credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It is a refusal.
    #[error("the other host refuses this one: {0}")]
    Refused(Reason),
    /// It is a refusal that this version has no words for.
    #[error(
        "the other host refuses this one for a reason ({0}) of a newer version; upgrade this host"
    )]
    RefusedOtherwise(u32),
    /// It cannot be read.
    #[error("the other host's answer cannot be taken: {0}")]
    Unreadable(#[from] Refusal),
}

/// Reads what [`answer`] wrote; the credential is not believed before it is verified.
pub fn read_answer(bytes: &[u8]) -> Result<Credential, AnswerError> {
    if bytes.len() > ANSWER_BYTES_MAX {
        return Err(Refusal::Unreadable("an answer of more than 1,000 bytes").into());
    }
    let message = wire::Answer::decode(bytes);
    let message = message.map_err(|_| Refusal::Unreadable("an answer"))?;
    check_version(message.version)?;
    match message.what {
        Some(wire::answer::What::Credential(credential)) => Ok(Credential::from_wire(credential)?),
        Some(wire::answer::What::Refused(number)) => Err(match Reason::from_number(number) {
            Some(reason) => AnswerError::Refused(reason),
            None => AnswerError::RefusedOtherwise(number),
        }),
        None => Err(Refusal::Unreadable("an answer that says nothing").into()),
    }
}
