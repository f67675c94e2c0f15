//! What operators are told of the members.

use super::Hosts;
use crate::protocol::MemberRow;
use margay_core::admission::Member;

impl Hosts {
    /// Every member as this host sees it, in the order of their names.
    pub fn roster(&self) -> Vec<MemberRow> {
        let mut rows: Vec<_> = self
            .membership
            .members()
            .map(|it| self.row_of(it))
            .collect();
        rows.sort_by(|one, other| one.name.cmp(&other.name));
        rows
    }

    fn row_of(&self, member: &Member) -> MemberRow {
        let certificate = &member.certificate;
        let host = certificate.host;
        let linked = self.links.get(&host);
        let link = match linked {
            _ if host == self.own.keys.host.public() => "self",
            Some(_) => "up",
            None if self.refusals.contains_key(&host) => "refused",
            None => "down",
        };
        let is_near = certificate.site == self.own.entry.site;
        let is_up = self.near.is_up(&host);
        let state = match (link, is_near, is_up) {
            ("self", ..) => "self",
            (_, false, _) => "far",
            (.., true) => "up",
            (.., false) => "down",
        };
        MemberRow {
            state: state.to_owned(),
            name: certificate.name.to_string(),
            site: certificate.site.to_string(),
            link: link.to_owned(),
            address: linked.map(|linked| linked.address),
            path: linked.and_then(|linked| linked.path).map(|path| {
                let kind = match path.on_link {
                    true => "plain",
                    false => "encapsulated",
                };
                kind.to_owned()
            }),
            roles: certificate.roles.iter().map(ToString::to_string).collect(),
            blocks: certificate.blocks.iter().map(ToString::to_string).collect(),
            until: certificate.validity.not_after().to_string(),
            host: host.to_string(),
            problem: self.refusals.get(&host).cloned(),
        }
    }
}
