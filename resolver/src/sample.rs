//! Queries for tests, made and read back by the codec.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};

/// A query for `name`, with RD set and without EDNS.
pub(crate) fn query(name: &str, record_type: RecordType) -> Message {
    let mut message = Message::new(0x4d47, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), record_type));
    message
}

/// The same with an EDNS record of this payload size.
pub(crate) fn query_with_edns(name: &str, record_type: RecordType, payload: u16) -> Message {
    let mut message = query(name, record_type);
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    message.set_edns(edns);
    message
}

/// The message in `bytes`, which must hold exactly one.
pub(crate) fn parsed(bytes: &[u8]) -> Message {
    let message = Message::from_vec(bytes).unwrap();
    assert_eq!(
        message.to_vec().unwrap().len(),
        bytes.len(),
        "trailing bytes"
    );
    message
}
