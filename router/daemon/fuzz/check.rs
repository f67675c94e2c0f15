//! What must hold of any bytes that come on the control socket: shared by the fuzz target and the corpus's
//! replay.

use crate::protocol::Request;

/// Reads `bytes` as a request; panics where what was read means something else when it is written.
/// Returns whether it was read.
pub(crate) fn check(bytes: &[u8]) -> bool {
    let Ok(request) = serde_json::from_slice::<Request>(bytes) else {
        return false;
    };
    let written = serde_json::to_vec(&request).expect("a request is written");
    let again: Request = serde_json::from_slice(&written).expect("what was written is read");
    assert_eq!(format!("{request:?}"), format!("{again:?}"));
    true
}
