//! Certificates end: getting the next one in time, and giving it to those whom this host admitted.

use super::payload::Kind;
use super::{Errand, Hosts, wall_time};
use crate::journal::MembershipRecord;
use margay_core::admission::{
    Credential, Issued, RENEWAL_RETRY, Refusal, answer, ask_to_renew, read_answer,
    read_renewal_request,
};
use margay_core::host::HostId;
use margay_core::moment::Moment;
use margay_datapath::host_link;
use margay_datapath::host_link::sealed::Statement;

impl Hosts {
    /// Hangs up on who is a member no longer, and sees to this host's own certificate.
    pub(super) fn look_at_certificates(&mut self, now: Moment) {
        self.sweep(now);
        let today = wall_time();
        let due = self.own.certificate.renews_at() <= today;
        let asked = self.asked_to_renew;
        let waits = asked.is_some_and(|asked| today.since(asked) < RENEWAL_RETRY);
        if !due || waits {
            return;
        }
        self.asked_to_renew = Some(today);
        let issuer = self.own.certificate.issuer;
        if issuer == self.own.keys.host.public() {
            match self.renew(issuer) {
                Ok(Issued {
                    credential,
                    records,
                    ..
                }) => {
                    self.run(Errand::Record(
                        records.into_iter().map(MembershipRecord::Issued).collect(),
                    ));
                    self.take_credential(credential, now);
                }
                Err(refusal) => tracing::error!("this host does not renew itself: {refusal}"),
            }
        } else {
            self.send(issuer, Kind::RenewalRequest, &ask_to_renew(), now);
        }
    }

    /// A member that this host admitted wants its next certificate.
    pub(super) fn renewal_wanted(&mut self, from: HostId, request: &[u8]) {
        let issued = read_renewal_request(request).and_then(|()| self.renew(from));
        let (records, answer) = match issued {
            Ok(issued) => (issued.records, answer(Ok(&issued.credential))),
            Err(refusal) => {
                tracing::warn!(host = %self.name_of(&from), "a host was not renewed: {refusal}");
                (Vec::new(), answer(Err(refusal.reason())))
            }
        };
        self.run(Errand::AnswerRenewal {
            records: records.into_iter().map(MembershipRecord::Issued).collect(),
            host: from,
            answer,
        });
    }

    /// Sends what was made durable.
    pub(super) fn answer_renewal(&mut self, host: HostId, answer: &[u8], now: Moment) {
        self.send(host, Kind::RenewalAnswer, answer, now);
    }

    /// The issuer answers.
    pub(super) fn renewal_answered(&mut self, from: HostId, answer: &[u8], now: Moment) {
        if from != self.own.certificate.issuer {
            return tracing::debug!(from = from.short(), "a certificate from nobody's issuer");
        }
        match read_answer(answer) {
            Ok(credential) => self.take_credential(credential, now),
            Err(error) => tracing::warn!("this host's certificate was not renewed: {error}"),
        }
    }

    fn renew(&mut self, host: HostId) -> Result<Issued, Refusal> {
        let issuer = self.issuer.as_mut().ok_or(Refusal::NotAnIssuer)?;
        let member = self.membership.member(&host);
        let member = member.ok_or(Refusal::NotGranted(host))?;
        issuer.renew(member, &self.membership, wall_time())
    }

    fn take_credential(&mut self, credential: Credential, now: Moment) {
        let own = self.own.keys.host.public();
        let verified =
            credential.verify(self.network(), self.membership.revocations(), wall_time());
        let certificate = match verified {
            Ok(certificate) if certificate.host == own => certificate,
            Ok(_) => return tracing::warn!("this host was sent another's certificate"),
            Err(refusal) => return tracing::warn!("a new certificate does not hold: {refusal}"),
        };
        if certificate.serial <= self.own.certificate.serial {
            return;
        }
        tracing::info!(until = %certificate.validity.not_after(), "this host's certificate is new");
        self.run(Errand::Record(vec![MembershipRecord::Renewed(
            credential.to_bytes(),
        )]));
        self.own.renew(credential, certificate);
        self.asked_to_renew = None;
        let introduction = self.own.introduction();
        match Statement::new(introduction.clone()) {
            Ok(statement) => {
                let input = host_link::Input::SetIntroduction(statement);
                self.link.handle_input(input, now);
            }
            Err(error) => tracing::error!(%error, "this host cannot introduce itself anew"),
        }
        self.heard_of(own, &introduction, now);
    }
}
