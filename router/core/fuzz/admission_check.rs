//! What must hold of any bytes read as one of admission's messages: shared by the fuzz target and
//! the corpus's replay.

use margay_core::admission::{
    AnswerError, Credential, INTRODUCTION_BYTES_MAX, IssuerCredential, JoinRequest, LinkKey,
    Membership, NetworkId, Refusal, Revocations, Token, is_newcomer, read_answer,
    read_renewal_request, verify,
};
use margay_core::signature::PrivateKey;
use margay_core::wall_time::WallTime;

/// When everything in the corpus was made.
pub(crate) const NOW: WallTime = WallTime::from_unix_seconds(1_800_000_000);

/// The key of the host link by which everything comes.
pub(crate) const LINK_KEY: LinkKey = LinkKey([1; 32]);

/// The root of the network into which everything comes.
pub(crate) fn root() -> PrivateKey {
    PrivateKey::from_bytes(&[100; 32])
}

/// Reads `bytes` in every way; panics where what was read breaks a rule. Returns as what they were
/// read, in words.
pub(crate) fn check(bytes: &[u8]) -> String {
    let network = NetworkId::from_root(root().public());
    let mut read = Vec::new();
    read.extend(check_introduction(bytes, network));
    if JoinRequest::open(bytes, network, LINK_KEY).is_ok() {
        assert!(is_newcomer(bytes));
        read.push("join request");
    }
    match Revocations::new(network).hear(bytes, NOW) {
        Ok(_) => read.push("revocation"),
        Err(error) => assert!(!error.name().is_empty()),
    }
    match read_answer(bytes) {
        Ok(credential) => {
            let verified = credential.verify(network, &Revocations::new(network), NOW);
            read.extend(verified.is_ok().then_some("credential"));
        }
        Err(AnswerError::Refused(_) | AnswerError::RefusedOtherwise(_)) => read.push("refusal"),
        Err(AnswerError::Unreadable(refusal)) => assert!(!refusal.to_string().is_empty()),
    }
    if let Ok(credential) = Credential::from_bytes(bytes) {
        assert_eq!(
            Credential::from_bytes(&credential.to_bytes()),
            Ok(credential)
        );
    }
    if let Ok(issuer) = IssuerCredential::from_bytes(bytes) {
        assert_eq!(IssuerCredential::from_bytes(&issuer.to_bytes()), Ok(issuer));
    }
    let _ = read_renewal_request(bytes);
    if let Some(token) = str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.parse::<Token>().ok())
    {
        assert_eq!(token.to_string().parse(), Ok(token));
        read.push("token");
    }
    read.join(" and ")
}

fn check_introduction(bytes: &[u8], network: NetworkId) -> Option<&'static str> {
    let verified = verify(bytes, network, &Revocations::new(network), NOW);
    let mut known = Membership::new(network);
    match &verified {
        Ok(member) => {
            assert!(bytes.len() <= INTRODUCTION_BYTES_MAX && member.introduction == bytes);
            let inside = |block| member.issuer.range.covers(block);
            assert!(member.certificate.blocks.iter().copied().all(inside));
            assert_eq!(member.certificate.network, network);
            known.learn(bytes, NOW).expect("the first that is known");
            assert_eq!(known.member(&member.certificate.host), Some(member));
            Some("member")
        }
        Err(refusal) => {
            assert_eq!(known.learn(bytes, NOW).as_ref(), Err(refusal));
            assert_eq!(known.members().count(), 0);
            matches!(refusal, Refusal::UnknownVersion(_)).then_some("newer version")
        }
    }
}
