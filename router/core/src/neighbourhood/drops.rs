//! Why something that came from another host, or should have gone to one, was dropped.

/// Declares the reasons with their names and explanations.
macro_rules! reasons {
    ($($variant:ident = $name:literal, $doc:literal;)*) => {
        /// Why something that came from another host, or should have gone to one, was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum NeighbourhoodDrop {
            $(#[doc = $doc] $variant,)*
        }

        impl NeighbourhoodDrop {
            /// Every reason.
            pub const ALL: &'static [NeighbourhoodDrop] = &[$(NeighbourhoodDrop::$variant,)*];

            /// The name in metrics.
            pub fn name(self) -> &'static str {
                match self { $(NeighbourhoodDrop::$variant => $name,)* }
            }

            /// What happened, in one sentence.
            pub fn explanation(self) -> &'static str {
                match self { $(NeighbourhoodDrop::$variant => $doc,)* }
            }
        }
    };
}

reasons! {
    UnknownHost = "unknown_host", "A datagram's sender is no host of this site, or has no certificate that holds.";
    TooManyHosts = "too_many_hosts", "The site has as many hosts as one may; this one is not known here.";
    NoLink = "no_link", "A datagram should have gone to a host to which no host link stands.";
    UnreadablePart = "unreadable_part", "A datagram is not in the form that a message's part should have.";
    Unfinished = "unfinished", "A message's other parts did not come before those of later ones.";
    NoRoomForParts = "no_room_for_parts", "Too many parts of unfinished messages wait already.";
    NotItsOwn = "not_its_own", "A host tells of an instance with an identity or addresses that are not its to give.";
    UnreadableKept = "unreadable_kept", "A kept composition cannot be read.";
    TooManyKept = "too_many_kept", "Too many kept compositions wait for their operators to be known.";
}
