//! One slot: what waits on it, and how far each side has come.

use std::task::{Context, Waker};

use super::super::credit::{Credit, FLOOR};
use super::received::Received;
use crate::decisions::DecisionId;

#[derive(Default)]
pub(super) struct Slot {
    pub(super) received: Received,
    pub(super) credit: Credit,
    pub(super) send_credit: u32,
    pub(super) peer: Half,
    pub(super) own: Half,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    pub(super) is_waiting: bool,
    /// What the peer's last word named, if it refused.
    pub(super) refused: Option<Box<DecisionId>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Half {
    #[default]
    Open,
    /// It sends no more bytes.
    Ended,
    /// It said its last word, after both had ended.
    Closed,
    /// It said its last word, and something was still to come.
    Reset,
}

impl Half {
    pub(super) fn is_final(self) -> bool {
        match self {
            Self::Closed | Self::Reset => true,
            Self::Open | Self::Ended => false,
        }
    }
}

impl Slot {
    pub(super) fn new() -> Self {
        Self {
            send_credit: FLOOR,
            ..Self::default()
        }
    }
}

pub(super) fn wake(place: &mut Option<Waker>) {
    if let Some(waker) = place.take() {
        waker.wake();
    }
}

pub(super) fn keep(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        _ => *place = Some(cx.waker().clone()),
    }
}
