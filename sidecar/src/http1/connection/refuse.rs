//! What a connection itself answers: that a request is refused, or could not be delivered.

use std::future::poll_fn;

use tokio::time::Instant;
use weft_policy::Reason;

use super::super::answer;
use super::super::content::{Content, Piece};
use super::super::flow::{Flow, Framed};
use super::super::head::RequestHead;
use super::{Connection, Then};
use crate::access_log::Record;
use crate::enforce::Refusal;
use crate::http::IDLE_TIMEOUT;
use crate::http::refusal::{self, Answer, Form};
use crate::http::strict::{self, Malformed};

impl Connection {
    pub(super) async fn refuse_malformed(&mut self, why: Malformed) -> Then {
        let refusal = Refusal::new(Reason::Malformed).because(why.to_string());
        self.request = RequestHead::default();
        self.head.clear();
        self.refuse(&refusal).await
    }

    pub(super) async fn refuse(&mut self, refusal: &Refusal) -> Then {
        let record = self.way.record(&self.request, &self.head);
        self.refuse_recorded(refusal, record).await
    }

    /// The same for what is on record already.
    pub(super) async fn refuse_recorded(
        &mut self,
        refusal: &Refusal,
        mut record: Option<Record>,
    ) -> Then {
        let decision = self.way.decide(refusal, &self.request, &self.head);
        if let Some(record) = &mut record {
            record.status = refusal.status;
            record.refused = Some((decision, refusal.reason));
        }
        drop(record);
        let closes = refusal.reason == Reason::Malformed || self.must_close_after_answer();
        let answer = refusal::refused(self.form(), refusal, decision);
        self.answer(&answer, closes).await
    }

    pub(super) async fn fail(
        &mut self,
        status: u16,
        why: &'static str,
        record: &mut Option<Record>,
    ) -> Then {
        if let Some(record) = record {
            record.status = status;
        }
        let closes = self.must_close_after_answer();
        let answer = refusal::failed(self.form(), status, why);
        self.answer(&answer, closes).await
    }

    /// What was not read of a request would be taken for the next one.
    fn must_close_after_answer(&mut self) -> bool {
        !self.request.keeps_alive
            || !self.request.is_1_1
            || self.request.upgrade.is_connect()
            || self.registered.ends()
            || self.is_refused
            || self.life <= Instant::now()
            || self.way.is_over()
            || !self.skip_content()
    }

    /// Leaves out the content of the request, if all of it is here.
    fn skip_content(&mut self) -> bool {
        let mut content = Content::from(std::mem::replace(
            &mut self.request.content,
            strict::BodyLength::Fixed(0),
        ));
        while !content.is_done() {
            match content.next(self.down.unused()) {
                Ok(Piece::Data(count) | Piece::Framing(count) | Piece::Trailers(count)) => {
                    self.down.consume(count)
                }
                Ok(Piece::More) | Err(_) => return false,
            }
        }
        true
    }

    async fn answer(&mut self, answer: &Answer, closes: bool) -> Then {
        let is_head = self.request.method(&self.head) == "HEAD";
        let text = answer::bytes(answer, is_head, closes);
        let mut flow = Flow::new(text, Content::Done, Framed::AsItCame);
        let down = &mut self.down.stream;
        let patience = tokio::time::timeout(IDLE_TIMEOUT, poll_fn(|cx| flow.poll_lead(down, cx)));
        match patience.await {
            Ok(Ok(())) if !closes => Then::GoOn,
            Ok(Ok(())) => Then::Linger,
            Ok(Err(_)) | Err(_) => Then::Reset,
        }
    }

    fn form(&self) -> Form {
        if self.request.is_grpc {
            Form::Grpc
        } else {
            Form::Json
        }
    }
}
