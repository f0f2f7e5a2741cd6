//! One request and its response, the same on both sides: made clean, registered, judged, and passed on with a [`Permit`].
//!
//! Invariant: a request is registered before it is judged, and both its content and its response end when the registration is cut.

mod forward;

use std::sync::Arc;

use http::{Response, StatusCode, request};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use jiff::Timestamp;
use weft_identity::{ServicePort, SpiffeId};
use weft_policy::{HttpRequest, Reason};

use super::Body;
use super::headers::{self, Lookup};
use super::refusal::{self, Form};
use super::server::{Arrived, RequestFraming};
use super::strict::Malformed;
use super::upgrade::{self, Tunnel, Upgrade};
use crate::access_log::Record;
use crate::connections::{Carries, Inlet, Live, OwnedRequest};
use crate::decisions::{Peer as RefusedPeer, Refused};
use crate::enforce::{self, Permit, Refusal, Side};
use crate::listener::Shared;
pub use forward::{Permitted, Route};

/// Who asks whom for what, before any verdict.
pub struct Exchange {
    pub shared: Arc<Shared>,
    pub side: Side,
    pub source: SpiffeId,
    pub head: request::Parts,
    pub upgrade: Upgrade,
    /// On the server side: what the request came over.
    inlet: Option<Inlet>,
    content: Option<Incoming>,
    framing: Option<RequestFraming>,
    downstream: Option<OnUpgrade>,
    malformed: Option<String>,
}

impl Exchange {
    /// Takes out of a request what must not pass, before anyone looks at it.
    pub fn begin(shared: &Arc<Shared>, source: SpiffeId, arrived: Arrived) -> Self {
        let Arrived {
            mut request,
            malformed,
            framing,
        } = arrived;
        let upgrade = upgrade::take(&mut request);
        let downstream = match upgrade {
            Upgrade::None | Upgrade::Ambiguous => None,
            Upgrade::To(_) | Upgrade::Connect | Upgrade::ExtendedConnect(_) => {
                Some(hyper::upgrade::on(&mut request))
            }
        };
        let (mut head, content) = request.into_parts();
        headers::remove_hop_by_hop(&mut head.headers);
        headers::remove_client_cert(&mut head.headers);
        let malformed = match (malformed, headers::authority(&head)) {
            (Some(why), _) => Some(why.to_string()),
            (None, Err(why)) => Some(why.to_string()),
            (None, Ok(_)) if headers::repeats_length(&head.headers) => {
                Some(Malformed::TwoContentLengths.to_string())
            }
            (None, Ok(_)) if !headers::has_path(&head) => Some(Malformed::RequestLine.to_string()),
            (None, Ok(_)) if headers::disguise_framing(&head.headers) => {
                Some(Malformed::DisguisedFraming.to_string())
            }
            (None, Ok(_)) => None,
        };
        let shared = Arc::clone(shared);
        Self {
            shared,
            side: Side::Client,
            source,
            head,
            upgrade,
            inlet: None,
            content: Some(content),
            framing,
            downstream,
            malformed,
        }
    }

    /// On the server side: what the request came over must stay believed and declared while it is open.
    #[must_use]
    pub fn over(mut self, inlet: Option<Inlet>) -> Self {
        self.side = Side::Server;
        self.inlet = inlet;
        self
    }

    /// The authority that the request names; a malformed request names none.
    pub fn authority(&self) -> Option<&str> {
        headers::authority(&self.head).ok().flatten()
    }

    /// The refusal of a request that has no single reading.
    pub fn malformed(&self) -> Option<Refusal> {
        let why = self.malformed.clone()?;
        Some(Refusal::new(Reason::Malformed).because(why))
    }

    /// Registers, then judges.
    pub fn judge(self, target: &ServicePort) -> Result<Permitted, Box<Response<Body>>> {
        let registered = Arc::new(self.shared.connections.register(Live {
            side: self.side,
            source: self.source.clone(),
            peer: self.inlet.as_ref().map(|inlet| Arc::clone(&inlet.peer)),
            declared: self.inlet.as_ref().map(|inlet| inlet.declared),
            target: target.clone(),
            carries: Carries::Request(self.owned()),
        }));
        match self.admit(target) {
            Ok(permit) => {
                let record = self.record(target.to_string()).map(|mut record| {
                    record.rule = permit.rule().to_string();
                    record
                });
                Ok(Permitted {
                    exchange: self,
                    registered,
                    permit,
                    record,
                })
            }
            Err(refusal) => Err(Box::new(self.refuse(
                &refusal,
                &target.service.to_string(),
                target.port.as_str(),
            ))),
        }
    }

    /// Answers with a refusal and counts it.
    pub fn refuse(&self, refusal: &Refusal, service: &str, port: &str) -> Response<Body> {
        let decision = self.shared.decisions.refuse(&Refused {
            side: self.side,
            source: RefusedPeer::Verified(&self.source),
            service,
            port,
            method: self.head.method.as_str(),
            path: self.head.uri.path(),
            host: self.authority().unwrap_or_default(),
            reason: refusal.reason,
            revision: self.shared.current.load().revision,
            detail: &refusal.detail,
        });
        if let Some(mut record) = self.record(format!("{service}:{port}")) {
            record.status = refusal.status;
            record.refused = Some((decision, refusal.reason));
        }
        self.answer(
            refusal::refused(self.form(), refusal, decision),
            refusal.reason == Reason::Malformed,
        )
    }

    /// Answers that the request could not be delivered.
    pub fn fail(&self, code: StatusCode, why: &'static str) -> Response<Body> {
        self.answer(refusal::failed(self.form(), code, why), false)
    }

    /// What follows on the connection is no longer HTTP.
    pub fn become_tunnel(&mut self) -> Option<impl Future<Output = Option<Tunnel>> + use<>> {
        let control = self
            .framing
            .as_ref()
            .map(|framing| Arc::clone(&framing.control));
        if let Some(control) = &control {
            control.become_tunnel();
        }
        let downstream = self.downstream.take()?;
        Some(async move {
            let upgraded = downstream.await.ok()?;
            Some(Tunnel::new(upgraded, control))
        })
    }

    fn answer(&self, response: Response<Body>, closes: bool) -> Response<Body> {
        let Some(framing) = &self.framing else {
            return response;
        };
        if framing.holds {
            framing.control.resume();
        }
        if closes || self.upgrade.is_connect() {
            refusal::closing(response)
        } else {
            response
        }
    }

    fn admit(&self, target: &ServicePort) -> Result<Permit, Refusal> {
        if let Some(refusal) = self.malformed() {
            return Err(refusal);
        }
        if self.upgrade == Upgrade::Ambiguous {
            return Err(
                Refusal::new(Reason::UpgradeNotAllowed).because("several protocols at once")
            );
        }
        let request = HttpRequest {
            method: self.head.method.as_str(),
            path: self.head.uri.path(),
            authority: self.authority(),
            headers: &Lookup(&self.head.headers),
            upgrade: self.upgrade.protocol(),
            connect: self.upgrade.is_connect(),
        };
        let enforced = self.shared.current.load();
        if let Some(inlet) = &self.inlet {
            inlet.peer.admit(&enforced)?;
            enforce::admit_port(&enforced, target, inlet.declared)?;
        }
        let (parties, now) = (self.parties(target), Timestamp::now());
        if self.side == Side::Server {
            enforce::audit_matches(&enforced, parties, Some(&request), now, |rule| {
                self.shared.trials.note(rule, &self.source, target);
            });
        }
        enforce::admit_request(&enforced, parties, &request, now)
    }

    fn parties<'a>(&'a self, target: &'a ServicePort) -> enforce::Parties<'a> {
        enforce::Parties {
            side: self.side,
            source: &self.source,
            target,
        }
    }

    /// The head, to be judged again while the exchange is open.
    fn owned(&self) -> OwnedRequest {
        let headers = self.head.headers.iter();
        OwnedRequest {
            method: self.head.method.as_str().to_owned(),
            path: self.head.uri.path().to_owned(),
            authority: self.authority().map(ToOwned::to_owned),
            headers: headers
                .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
                .collect(),
            upgrade: self.upgrade.protocol().map(ToOwned::to_owned),
            connect: self.upgrade.is_connect(),
        }
    }

    fn record(&self, target: String) -> Option<Record> {
        self.shared.config.access_log.then(|| {
            let mut record = Record::new(self.side, self.source.to_string(), target);
            record.method = self.head.method.as_str().to_owned();
            record.path = self.head.uri.path().to_owned();
            record
        })
    }

    fn form(&self) -> Form {
        if headers::is_grpc(&self.head.headers) {
            Form::Grpc
        } else {
            Form::Json
        }
    }
}
