//! Admission: who belongs to a network. Keys, wall time and secret seeds come in; what must be said,
//! kept or refused goes out.
//!
//! A network's root signs an [`IssuerCertificate`] for each issuer, an issuer a [`Certificate`] for
//! each host, a host its own record: the chain is an *introduction*, which [`verify`] checks.
//!
//! What flows where:
//!
//! | command or event | call | what comes out, and where it goes |
//! |---|---|---|
//! | `margay network create` | [`Root::new`], [`Root::certify`], [`Issuer::new`], [`Issuer::admit`] | root key: a file to be taken away; credentials and records: the journal |
//! | `margay invite` | [`Issuer::invite`] | records: the journal, then the token: the terminal |
//! | `margay join TOKEN` | [`Token`]`::from_str`, [`ask_to_join`] | the introduction: a host link to the token's issuer, with [`NetworkId::link_psk`] |
//! | a host link's handshake | [`is_newcomer`], [`Membership::admit`] | a member, or a [`Refusal`]: its words to the log, [`Reason::advice`] to the other side |
//! | ... of a newcomer | [`JoinRequest::open`], [`Issuer::redeem`] ([`Refusal::NotAnIssuer`] elsewhere) | records: the journal, then [`answer`]: the newcomer |
//! | an answer | [`read_answer`], [`Credential::verify`], [`introduce`] | the credential: the journal; the introduction: every handshake and the gossip |
//! | at [`Certificate::renews_at`], then every [`RENEWAL_RETRY`] | [`ask_to_renew`] | a request: the host link to [`Certificate::issuer`] |
//! | a request to renew | [`read_renewal_request`], [`Issuer::renew`] | records: the journal, then [`answer`]: the member |
//! | `margay revoke HOST` | [`Issuer::revoke`], [`Membership::revoke`] | records and revocation: the journal, then the gossip |
//! | gossip | [`Membership::learn`], [`Membership::revoke`] | news: passed on, revocations to the journal, too |
//! | no binding lives in a block that rests ([`Issuer::resting`]) | [`Issuer::release`] | a record: the journal |
//! | every minute, and after a revocation | [`Membership::sweep`] | departed members: their host links are ended, with [`Reason::advice`] at the next handshake |
//! | `margay members` | [`Membership::members`], [`Issuer::grants`], [`Issuer::invitations`] | the terminal |
//!
//! Messages, checks in their order, and lifetimes: docs/protocol/admission.md.

mod blocks;
mod certificate;
mod introduction;
mod issuer;
mod join;
mod membership;
mod network;
mod refusal;
mod revocation;
#[cfg(test)]
mod tests;
mod token;

pub use certificate::{
    BLOCKS_MAX, CLOCK_LEEWAY, Certificate, Credential, ISSUER_LIFETIME_MAX, IssuerCertificate,
    IssuerCredential, MEMBERSHIP_LIFETIME_MAX, RENEWAL_RETRY, Serial, Validity,
};
pub use introduction::{
    ADDRESSES_MAX, Contact, INTRODUCTION_BYTES_MAX, LinkKey, Member, introduce, is_newcomer, verify,
};
pub use issuer::{
    BLOCK_PREFIX, Counter, Grant, INVITATION_LIFETIME_MAX, INVITATION_USES_MAX, Invitation,
    InviteError, Issued, Issuer, IssuerConfig, IssuerRecord, MEMBERSHIP_LIFETIME, Place, Terms,
};
pub use join::{
    ANSWER_BYTES_MAX, AnswerError, JoinRequest, answer, ask_to_join, ask_to_renew, read_answer,
    read_renewal_request,
};
pub use membership::{Departed, Learned, MEMBERS_MAX, Membership};
pub use network::{ISSUER_LIFETIME, NetworkId, RangeTaken, Role, RoleError, Root};
pub use refusal::{ADVICE_BYTES_MAX, Reason, Refusal};
pub use revocation::{
    Heard, REVOCATION_BYTES_MAX, REVOCATIONS_MAX, Revocation, RevocationError, Revocations,
};
pub use token::{TOKEN_ADDRESSES_MAX, Token, TokenError, TokenId, TokenIdError};
