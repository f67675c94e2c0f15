//! Letting hosts in, refusing them, and passing on who is in and who is out.

use super::payload::Kind;
use super::{Errand, Hosts, wall_time};
use crate::journal::MembershipRecord;
use margay_core::admission::{
    Heard, Issued, JoinRequest, Learned, LinkKey, Refusal, answer, is_newcomer,
};
use margay_core::host::HostId;
use margay_core::moment::Moment;
use margay_core::neighbourhood::NeighbourhoodInput;
use margay_datapath::host_link::sealed::Statement;
use margay_datapath::host_link::{self, ExchangeId, NoiseKey};
use std::net::SocketAddr;

/// How many refused keys are remembered, so that each is told of once.
const REFUSED_MAX: usize = 64;

impl Hosts {
    /// Judges who introduced itself.
    pub(super) fn introduced(
        &mut self,
        exchange: ExchangeId,
        from: SocketAddr,
        noise_key: NoiseKey,
        introduction: &[u8],
        now: Moment,
    ) {
        let link_key = LinkKey(*noise_key.as_bytes());
        let judged = if is_newcomer(introduction) {
            self.redeem(exchange, introduction, link_key)
        } else {
            let admitted = self.membership.admit(introduction, link_key, wall_time());
            admitted.map(|(host, learned)| self.let_in(exchange, host, learned, now))
        };
        if let Err(refusal) = judged {
            self.tell_of_refusal(from, noise_key, &refusal);
            self.refuse(exchange, &refusal, now);
        }
    }

    /// Admits a newcomer once what it is given is durable.
    fn redeem(
        &mut self,
        exchange: ExchangeId,
        introduction: &[u8],
        link_key: LinkKey,
    ) -> Result<(), Refusal> {
        let request = JoinRequest::open(introduction, self.network(), link_key)?;
        let issuer = self.issuer.as_mut().ok_or(Refusal::NotAnIssuer)?;
        let issued = issuer.redeem(&request, &self.membership, wall_time())?;
        let Issued {
            credential,
            certificate,
            records,
        } = issued;
        tracing::info!(host = %certificate.name, site = %certificate.site, "a host joins");
        self.run(Errand::Admit {
            records: records.into_iter().map(MembershipRecord::Issued).collect(),
            exchange,
            host: certificate.host,
            answer: answer(Ok(&credential)),
        });
        Ok(())
    }

    fn let_in(&mut self, exchange: ExchangeId, host: HostId, learned: Learned, now: Moment) {
        let own = self.membership.member(&self.own.keys.host.public());
        let own = own.map(|own| own.introduction.clone()).unwrap_or_default();
        self.admit(exchange, host, own, now);
        if learned != Learned::Nothing {
            self.news_of(host, None, now);
        }
    }

    /// Answers an exchange; what is said was made durable.
    pub(super) fn admit(
        &mut self,
        exchange: ExchangeId,
        host: HostId,
        answer: Vec<u8>,
        now: Moment,
    ) {
        match Statement::new(answer) {
            Ok(answer) => {
                let admit = host_link::Input::Admit {
                    exchange,
                    host,
                    answer,
                };
                self.link.handle_input(admit, now);
            }
            Err(error) => tracing::error!(%error, "a host cannot be answered"),
        }
    }

    fn refuse(&mut self, exchange: ExchangeId, refusal: &Refusal, now: Moment) {
        let reason = refusal.reason().advice().to_owned();
        self.link
            .handle_input(host_link::Input::Refuse { exchange, reason }, now);
    }

    pub(super) fn count_refused(&mut self, reason: &'static str) {
        *self.refused_for.entry(reason).or_default() += 1;
    }

    /// Once for each host and reason: who is refused comes again and again.
    fn tell_of_refusal(&mut self, from: SocketAddr, key: NoiseKey, refusal: &Refusal) {
        self.count_refused(refusal.reason().name());
        let reason = refusal.reason().name().to_owned();
        if self.refused.get(&key) == Some(&reason) {
            return;
        }
        tracing::warn!(%from, reason, "a host was refused: {refusal}");
        if self.refused.len() >= REFUSED_MAX {
            self.refused.clear();
        }
        self.refused.insert(key, reason);
    }

    /// The host that we called says who it is.
    pub(super) fn answered(&mut self, host: HostId, introduction: &[u8], now: Moment) {
        match self.membership.learn(introduction, wall_time()) {
            Ok((said, _)) if said != host => {
                tracing::warn!(host = host.short(), "it says that it is another host");
                self.hang_up(host, now);
            }
            Ok((_, Learned::Nothing)) => {}
            Ok(_) => self.news_of(host, None, now),
            Err(refusal) => {
                self.count_refused(refusal.reason().name());
                tracing::warn!(host = %self.name_of(&host), "a host was refused: {refusal}");
                self.hang_up(host, now);
            }
        }
    }

    /// The host that we called does not want us.
    pub(super) fn was_refused(&mut self, host: HostId, reason: String) {
        if self.refusals.get(&host) != Some(&reason) {
            tracing::warn!(by = %self.name_of(&host), "this host was refused: {reason}");
            self.refusals.insert(host, reason);
        }
    }

    /// Another host passes on how a member introduces itself.
    pub(super) fn heard_of(&mut self, from: HostId, introduction: &[u8], now: Moment) {
        match self.membership.learn(introduction, wall_time()) {
            Ok((_, Learned::Nothing)) => {}
            Ok((host, _)) => self.news_of(host, Some(from), now),
            Err(refusal) => {
                self.count_refused(refusal.reason().name());
                tracing::debug!(by = %self.name_of(&from), %refusal, "no member was told of");
            }
        }
    }

    /// Another host passes on that somebody was taken out.
    pub(super) fn heard_revocation(&mut self, from: HostId, revocation: &[u8], now: Moment) {
        match self.membership.revoke(revocation, wall_time()) {
            Ok(Heard::News) => self.news_of_revocation(revocation, Some(from), now),
            Ok(Heard::Known) => {}
            Err(error) => {
                self.count_refused(error.name());
                tracing::debug!(by = %self.name_of(&from), %error, "no revocation");
            }
        }
    }

    /// Keeps, passes on and acts on what is new of a member.
    fn news_of(&mut self, host: HostId, told_by: Option<HostId>, now: Moment) {
        let Some(member) = self.membership.member(&host) else {
            return;
        };
        let introduction = member.introduction.clone();
        let record = MembershipRecord::Introduced(host, introduction.clone());
        self.run(Errand::Record(vec![record]));
        if self.near.is_met(&host) {
            self.look_for(host, now);
        }
        self.tell_of(host, now);
        let others = self.links.keys().copied();
        let others = others.filter(|other| *other != host && Some(*other) != told_by);
        for other in others.collect::<Vec<_>>() {
            self.send(other, Kind::Introduction, &introduction, now);
        }
    }

    /// Keeps, passes on and acts on a revocation that is new.
    pub(super) fn news_of_revocation(
        &mut self,
        revocation: &[u8],
        told_by: Option<HostId>,
        now: Moment,
    ) {
        let record = MembershipRecord::Revoked(revocation.to_vec());
        self.run(Errand::Record(vec![record]));
        let others = self.links.keys().copied();
        let others = others.filter(|other| Some(*other) != told_by);
        for other in others.collect::<Vec<_>>() {
            self.send(other, Kind::Revocation, revocation, now);
        }
        self.sweep(now);
    }

    /// Tells a host that was just found all that is known: what was passed on meanwhile was lost.
    pub(super) fn tell_all(&mut self, host: HostId, now: Moment) {
        let revocations = self.membership.revocations().iter();
        let revocations: Vec<_> = revocations.map(|it| it.bytes.clone()).collect();
        for revocation in revocations {
            self.send(host, Kind::Revocation, &revocation, now);
        }
        let members = self.membership.members();
        let members = members.filter(|member| member.certificate.host != host);
        let introductions: Vec<_> = members.map(|it| it.introduction.clone()).collect();
        for introduction in introductions {
            self.send(host, Kind::Introduction, &introduction, now);
        }
    }

    /// Hangs up on who is a member no longer.
    pub(super) fn sweep(&mut self, now: Moment) {
        for departed in self.membership.sweep(wall_time()) {
            let host = departed.member.certificate.host;
            let name = &departed.member.certificate.name;
            if host == self.own.keys.host.public() {
                tracing::error!(
                    "this host belongs to its network no longer: {}",
                    departed.why
                );
                continue;
            }
            tracing::warn!(host = %name, "a host is no member any more: {}", departed.why);
            self.run(Errand::Record(vec![MembershipRecord::Departed(host)]));
            self.hang_up(host, now);
            self.near
                .handle_input(NeighbourhoodInput::Unknown { host }, now);
        }
    }
}
