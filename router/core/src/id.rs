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
    /// One identity on this host: raised for each new instance, never used twice.
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
    /// The host itself as a caller: its own programs and the DNS servers that ask it. No instance has
    /// this number.
    pub const HOST: InstanceId = InstanceId(0);
}
