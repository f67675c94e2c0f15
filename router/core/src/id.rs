//! Identifiers: one newtype per thing that is numbered.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// One identity: raised for each new instance of a host, never used twice. In a network the upper
    /// half is the base of the IPv4 block of the host where it was born.
    InstanceId(u64)
);
number!(
    /// A dense index into the kernel's table of endpoints; one per instance that has a network.
    EndpointIndex(u32)
);
number!(
    /// A row of the kernel's slot array; a flow holds two, one per direction.
    SlotIndex(u32)
);
number!(
    /// A location cell: where an identity is now. Many slots share one.
    LocationIndex(u32)
);
number!(
    /// One request of an operator; its answer repeats it.
    RequestId(u64)
);
number!(
    /// The version of a composition; only ever grows.
    Version(u64)
);

impl InstanceId {
    /// Its number on the host where it was born; the upper half says which host that was.
    pub const fn number_at_birth(self) -> u32 {
        let [.., a, b, c, d] = self.0.to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    /// The host itself as a caller: its own programs and the DNS servers that ask it. No instance has
    /// this number.
    pub const HOST: InstanceId = InstanceId(0);
}
