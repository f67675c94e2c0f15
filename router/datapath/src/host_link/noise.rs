//! Noise by snow: one pattern, with randomness that is handed in.
//!
//! The pattern is WireGuard's. ChaCha20-Poly1305 and BLAKE2s run in constant time on every CPU
//! without help of hardware, so that any two hosts can speak and nothing need be negotiated.

use super::key::{NetworkSecret, NoiseKey, NoisePrivateKey};
use super::message::{INITIATION_NOISE_BYTES, RESPONSE_NOISE_BYTES_MAX, SessionIndex, TAG_BYTES};
use super::sealed::{ANSWER_BYTES_MAX, Answer, OPENING_BYTES, Opening};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, Error, HandshakeState, StatelessTransportState};
use std::fmt;

const PATTERN: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";

/// Noise mixes the network's secret in at the end of the second message (the pattern's `psk2`).
const PSK_POSITION: u8 = 2;

/// Both sides mix this and the initiator's index in: a handshake of anything else never opens.
const PROLOGUE: &[u8] = b"margay host link 1";

/// 32 bytes that nobody can guess and nobody uses twice.
pub(super) type Secret = [u8; 32];

/// Who this host is on the link.
pub(super) struct Identity {
    private: NoisePrivateKey,
    public: NoiseKey,
    network: NetworkSecret,
}

impl Identity {
    pub fn new(private: NoisePrivateKey, network: NetworkSecret) -> Self {
        let public = private.public();
        Identity {
            private,
            public,
            network,
        }
    }

    pub fn public(&self) -> NoiseKey {
        self.public
    }

    /// Begins a handshake; answers what Noise writes into the initiation too.
    pub fn initiate(
        &self,
        (to, index): (NoiseKey, SessionIndex),
        opening: &Opening,
        secret: Secret,
    ) -> (Initiator, Vec<u8>) {
        let prologue = prologue(index);
        let mut handshake = self
            .builder(&prologue, secret)
            .remote_public_key(to.as_bytes())
            .and_then(Builder::build_initiator)
            .expect("all that the pattern needs of an initiator is given");
        let noise = write(&mut handshake, &opening.to_bytes(), INITIATION_NOISE_BYTES);
        (Initiator(handshake), noise)
    }

    /// Opens what Noise wrote into an initiation: who sent it, and what it says.
    ///
    /// It is `None` if it was not written for this host.
    pub fn respond(
        &self,
        (noise, index): (&[u8], SessionIndex),
        secret: Secret,
    ) -> Option<(Responder, NoiseKey, Opening)> {
        let prologue = prologue(index);
        let mut handshake = self
            .builder(&prologue, secret)
            .build_responder()
            .expect("all that the pattern needs of a responder is given");
        let mut plaintext = [0; OPENING_BYTES];
        let length = handshake.read_message(noise, &mut plaintext).ok()?;
        let opening = Opening::parse(&plaintext[..length])?;
        let key = handshake.get_remote_static()?.try_into().ok()?;
        Some((Responder(handshake), NoiseKey::from_bytes(key), opening))
    }

    fn builder<'a>(&'a self, prologue: &'a [u8], secret: Secret) -> Builder<'a> {
        let pattern: NoiseParams = PATTERN.parse().expect("snow knows the pattern");
        Builder::with_resolver(pattern, Box::new(Resolver { secret }))
            .local_private_key(self.private.secret())
            .and_then(|it| it.psk(PSK_POSITION, &self.network.0))
            .and_then(|it| it.prologue(prologue))
            .expect("each is given once")
    }
}

/// The side of a handshake that waits for the second message.
pub(super) struct Initiator(HandshakeState);

impl Initiator {
    /// Opens the response; `None`, and nothing has changed, if it answers another initiation or was
    /// made up.
    pub fn finish(&mut self, noise: &[u8]) -> Option<Answer> {
        let mut plaintext = [0; ANSWER_BYTES_MAX];
        let length = self.0.read_message(noise, &mut plaintext).ok()?;
        Answer::parse(&plaintext[..length])
    }

    /// The keys of the session, once finished.
    pub fn into_keys(self) -> Keys {
        keys(self.0)
    }
}

/// The side of a handshake that has not answered yet.
pub(super) struct Responder(HandshakeState);

impl Responder {
    /// What Noise writes into the response, and the keys of the session.
    pub fn answer(mut self, answer: &Answer) -> (Vec<u8>, Keys) {
        let noise = write(&mut self.0, &answer.to_bytes(), RESPONSE_NOISE_BYTES_MAX);
        (noise, keys(self.0))
    }
}

/// What a session seals and opens with: a key for each direction.
pub(super) struct Keys(StatelessTransportState);

impl Keys {
    /// Seals `plaintext`; each number is used once.
    pub fn seal(&self, number: u64, plaintext: &[u8]) -> Vec<u8> {
        let mut sealed = vec![0; plaintext.len() + TAG_BYTES];
        self.0
            .write_message(number, plaintext, &mut sealed)
            .expect("a datagram is shorter than Noise allows, and sessions end before numbers do");
        sealed
    }

    /// Opens what the other side sealed under this number.
    pub fn open(&self, number: u64, sealed: &[u8]) -> Option<Vec<u8>> {
        let mut plaintext = vec![0; sealed.len().checked_sub(TAG_BYTES)?];
        self.0
            .read_message(number, sealed, &mut plaintext)
            .ok()
            .map(|_| plaintext)
    }
}

/// The public key of a private one.
pub(super) fn public_key(private: &[u8; 32]) -> NoiseKey {
    let mut pair = DefaultResolver
        .resolve_dh(&DHChoice::Curve25519)
        .expect("the feature is on");
    pair.set(private);
    let public = pair.pubkey().try_into();
    NoiseKey::from_bytes(public.expect("X25519 has keys of 32 bytes"))
}

fn prologue(index: SessionIndex) -> Vec<u8> {
    [PROLOGUE, &index.0.to_be_bytes()].concat()
}

fn write(handshake: &mut HandshakeState, plaintext: &[u8], bytes_max: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes_max];
    let length = handshake
        .write_message(plaintext, &mut noise)
        .expect("it is this side's turn, and the buffer holds the longest message");
    noise.truncate(length);
    noise
}

fn keys(handshake: HandshakeState) -> Keys {
    let transport = handshake.into_stateless_transport_mode();
    Keys(transport.expect("both messages were exchanged"))
}

/// snow's own primitives, but randomness from a secret.
struct Resolver {
    secret: Secret,
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(SecretRandom(ChaCha12Rng::from_seed(self.secret))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

struct SecretRandom(ChaCha12Rng);

impl Random for SecretRandom {
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.0.fill_bytes(bytes);
        Ok(())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity of {:?}", self.public)
    }
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Initiator")
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Responder")
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

#[cfg(test)]
mod tests {
    use super::super::sealed::{InitiationNumber, Statement, Verdict};
    use super::*;
    use margay_core::host::OriginEpoch;

    const INDEX: SessionIndex = SessionIndex(6);

    fn identity(secret: u8, network: u8) -> Identity {
        Identity::new(
            NoisePrivateKey::from_bytes([secret; 32]),
            NetworkSecret([network; 32]),
        )
    }

    fn opening() -> Opening {
        Opening {
            number: InitiationNumber {
                epoch: OriginEpoch(1),
                count: 2,
            },
            introduction: Statement::new(b"me".to_vec()).unwrap(),
        }
    }

    #[test]
    fn both_sides_learn_of_each_other_and_seal_for_each_other() {
        let (asking, asked) = (identity(1, 9), identity(2, 9));
        let (mut initiator, noise) = asking.initiate((asked.public(), INDEX), &opening(), [3; 32]);
        let (responder, key, read) = asked.respond((&noise, INDEX), [4; 32]).unwrap();
        assert_eq!((key, read), (asking.public(), opening()));
        let answer = Answer {
            epoch: OriginEpoch(3),
            session: SessionIndex(4),
            verdict: Verdict::Admitted(Statement::default()),
        };
        let (noise, theirs) = responder.answer(&answer);
        let mut damaged = noise.clone();
        damaged[40] ^= 1;
        assert_eq!(initiator.finish(&damaged), None);
        assert_eq!(initiator.finish(&noise), Some(answer), "as if nothing was");
        let ours = initiator.into_keys();
        let sealed = ours.seal(7, b"hello");
        assert_eq!(theirs.open(7, &sealed), Some(b"hello".to_vec()));
        assert_eq!(theirs.open(8, &sealed), None, "another number");
        assert_eq!(ours.open(7, &sealed), None, "its own direction");
    }

    #[test]
    fn other_hosts_and_other_networks_open_nothing() {
        let (asking, asked) = (identity(1, 9), identity(2, 9));
        let (mut initiator, noise) = asking.initiate((asked.public(), INDEX), &opening(), [3; 32]);
        assert!(identity(5, 9).respond((&noise, INDEX), [4; 32]).is_none());
        let other_index = (&noise[..], SessionIndex(7));
        assert!(asked.respond(other_index, [4; 32]).is_none());
        let stranger = identity(2, 8);
        let (responder, ..) = stranger.respond((&noise, INDEX), [4; 32]).unwrap();
        let (noise, _) = responder.answer(&Answer {
            epoch: OriginEpoch(3),
            session: SessionIndex(4),
            verdict: Verdict::refusal("no"),
        });
        assert_eq!(initiator.finish(&noise), None);
    }

    #[test]
    fn handshakes_follow_from_their_secret() {
        let (asking, asked) = (identity(1, 9), identity(2, 9));
        let noise = |secret| {
            asking
                .initiate((asked.public(), INDEX), &opening(), secret)
                .1
        };
        assert_eq!(noise([3; 32]), noise([3; 32]));
        assert_ne!(noise([3; 32]), noise([4; 32]));
    }
}
