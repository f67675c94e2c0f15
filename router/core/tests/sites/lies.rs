//! What a host says that lies: damaged, another's, or from long ago.

use margay_core::wire::margay::signed::Signed;
use margay_core::wire::margay::sites as wire;
use prost::Message;
use rand::Rng;
use rand::rngs::SmallRng;

/// Another message in place of `bytes`: of those that were said before, or the same, changed.
pub fn instead(bytes: &[u8], before: &[Vec<u8>], random: &mut SmallRng) -> Vec<u8> {
    if random.random()
        && let Some(swapped) = swapped(bytes, random)
    {
        return swapped;
    }
    match random.random_range(0..3) {
        0 if !before.is_empty() => before[random.random_range(0..before.len())].clone(),
        1 => bytes.to_vec(),
        _ => flipped(bytes, random),
    }
}

fn flipped(bytes: &[u8], random: &mut SmallRng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if !bytes.is_empty() {
        let at = random.random_range(0..bytes.len());
        bytes[at] ^= 1 << random.random_range(0..8);
    }
    bytes
}

/// An answer with an instance that is said to be another host's, or whose host said something else.
fn swapped(bytes: &[u8], random: &mut SmallRng) -> Option<Vec<u8>> {
    let mut answer = wire::Answer::decode(bytes).ok()?;
    let Some(wire::answer::What::Found(found)) = &mut answer.what else {
        return None;
    };
    let origin = found.instances.first_mut()?;
    match random.random_range(0..3) {
        0 => {
            let other = super::host::key(random.random_range(0..12)).public();
            origin.host = other.as_bytes().to_vec();
        }
        1 => origin.host = vec![random.random(); 32],
        _ => {
            let mut signed = Signed::decode(origin.record.as_slice()).ok()?;
            signed.content = flipped(&signed.content, random);
            origin.record = signed.encode_to_vec();
        }
    }
    Some(answer.encode_to_vec())
}
