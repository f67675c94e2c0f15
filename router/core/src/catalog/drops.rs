//! Why something that came to the catalog was not believed.

/// Declares the reasons with their names and explanations.
macro_rules! reasons {
    ($($variant:ident = $name:literal, $doc:literal;)*) => {
        /// Why something that came to the catalog was not believed. Nothing else is affected by it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum CatalogDrop {
            $(#[doc = $doc] $variant,)*
        }

        impl CatalogDrop {
            /// Every reason.
            pub const ALL: &'static [CatalogDrop] = &[$(CatalogDrop::$variant,)*];

            /// The name in metrics.
            pub fn name(self) -> &'static str {
                match self { $(CatalogDrop::$variant => $name,)* }
            }

            /// What happened, in one sentence.
            pub fn explanation(self) -> &'static str {
                match self { $(CatalogDrop::$variant => $doc,)* }
            }
        }
    };
}

reasons! {
    TooLong = "too_long", "A message or a record is longer than one may be.";
    Unreadable = "unreadable", "A message or a record is not in the form that it should have.";
    UnknownVersion = "unknown_version", "A message or a record is in a form that this host does not know yet.";
    NotCertified = "not_certified", "The host that wrote or sent it has no certificate that holds now.";
    Forged = "forged", "The signature is not that of the host or the operator whose word it should be.";
    Known = "known", "It was here already, or something later about the same thing was.";
    TooFarAhead = "too_far_ahead", "Too many records of its origin are missing before it; repair brings them in order.";
    OriginFull = "origin_full", "Its origin holds as much of the catalog as one host may.";
    CatalogFull = "catalog_full", "The catalog is as large as it may become.";
    Unread = "unread", "A record is its origin's, but what it says is unknown here; it is passed on and not believed.";
    NotItsHolder = "not_its_holder", "A binding whose generation its origin had no right to raise.";
    Unasked = "unasked", "An answer to a question that was not asked, or was given up.";
    AskedTooOften = "asked_too_often", "A host asked more often than it gets answers.";
    NotAnOperator = "not_an_operator", "A composition is signed by a key that is no operator's.";
    TwoContents = "two_contents", "A composition differs from the one that is here under the same version.";
    TooManyCompositions = "too_many_compositions", "There are as many compositions as a site may have.";
}
