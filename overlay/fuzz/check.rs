//! What must hold of any bytes that a stream brings: shared by the fuzz target and the corpus's replay.

use crate::codec::{Carried, Codec};
use libp2p::StreamProtocol;
use libp2p::futures::executor::block_on;
use libp2p::futures::io::Cursor;
use libp2p::request_response::Codec as _;
use margay_core::overlay::OVERLAY_BYTES_MAX;
use std::time::Duration;

/// Reads a stream of `bytes`; panics where what was read breaks a bound, or is not what was written.
/// Returns as what it was read, in words.
pub(crate) fn check(bytes: &[u8]) -> &'static str {
    let mut codec = Codec {
        question_timeout: Duration::ZERO,
    };
    let protocol = StreamProtocol::new("/margay/ask/1");
    match block_on(codec.read_response(&protocol, &mut Cursor::new(bytes))) {
        Ok(Carried::Whole(message)) => {
            assert!(message.len() <= OVERLAY_BYTES_MAX);
            let read = 4 + message.len();
            let mut written = Cursor::new(Vec::new());
            let whole = Carried::Whole(message);
            let wrote = block_on(codec.write_response(&protocol, &mut written, whole));
            wrote.expect("what was read can be written");
            assert_eq!(written.get_ref(), &bytes[..read]);
            "whole"
        }
        Ok(Carried::TooLong) => {
            let length = bytes.first_chunk().map(|it| u32::from_be_bytes(*it));
            assert!(length.is_some_and(|it| it as usize > OVERLAY_BYTES_MAX));
            "too-long"
        }
        Ok(Carried::Stalled) => panic!("answers are not waited for here"),
        Err(_) => "cut",
    }
}
