//! Why something of other sites was dropped.

/// Declares the reasons with their names and explanations.
macro_rules! reasons {
    ($($variant:ident = $name:literal, $doc:literal;)*) => {
        /// Why something that came from another site, or should have gone there, was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum SitesDrop {
            $(#[doc = $doc] $variant,)*
        }

        impl SitesDrop {
            /// Every reason.
            pub const ALL: &'static [SitesDrop] = &[$(SitesDrop::$variant,)*];

            /// The name in metrics.
            pub fn name(self) -> &'static str {
                match self { $(SitesDrop::$variant => $name,)* }
            }

            /// What happened, in one sentence.
            pub fn explanation(self) -> &'static str {
                match self { $(SitesDrop::$variant => $doc,)* }
            }
        }
    };
}

reasons! {
    TooManyMembers = "too_many_members", "The network has as many hosts as one may know; this one is not known here.";
    UnknownMember = "unknown_member", "Its sender, or whose word it is, belongs not to the network as far as is known here.";
    Unreadable = "unreadable", "A message is too long, or not in the form that it should have.";
    UnknownVersion = "unknown_version", "A message is in a form that this host does not know yet.";
    UnknownTopic = "unknown_topic", "Something was heard about a topic that nobody here listens to.";
    Forged = "forged", "The signature is not that of the host whose word it should be.";
    NotAGateway = "not_a_gateway", "A summary is signed by a host that may not speak for what it sums up.";
    OldSummary = "old_summary", "A summary is no later than what its gateway said before.";
    SummaryBudget = "summary_budget", "A service of a summary was left out: far, little used, and there is no room for all.";
    SummaryCut = "summary_cut", "A service was left out of the own summary, which is as long as one may be.";
    NotItsOwn = "not_its_own", "A host tells of an instance with an identity or addresses that are not its to give.";
    OtherService = "other_service", "An answer holds an instance of something else than was asked for.";
    OldRecord = "old_record", "A record of an instance is older than the one that is here.";
    LeasesFull = "leases_full", "There are as many instances of other sites here as there may be; the least used one gave way.";
    TooManySeeks = "too_many_seeks", "As many services are sought at once as may be, or as many wait for one.";
    Unasked = "unasked", "An answer to a question that was not asked, or was given up.";
    NoIntroduction = "no_introduction", "A request should have gone to another site, and there is no record of its caller.";
    IntroductionTooLong = "introduction_too_long", "A request and its caller's record are longer than a datagram.";
    CompositionTooLong = "composition_too_long", "A composition that another site offers is longer than one may be, or not what was offered.";
}
