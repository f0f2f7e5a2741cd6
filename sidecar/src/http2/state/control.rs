//! What the frames do that carry nothing of a message: settings, pings, windows, the peer's goodbye.

use super::super::frame::{
    self, ACK, Code, Fault, Header, Kind, MOST_WINDOW, Setting, number, read_settings,
};
use super::slot::{Slot, wake};
use super::{LAST_STREAM, LEAVING, Leaving, MOST_OPEN, Role, State, TABLE};

impl State {
    /// Asks the peer to use this connection no further; what is open goes on.
    pub fn go_away(&mut self) {
        if self.goes_away != Leaving::No || self.closed {
            return;
        }
        self.writes();
        match self.role {
            Role::Client => self.goes_away = Leaving::Done,
            Role::Server => {
                self.goes_away = Leaving::Said;
                frame::go_away(LAST_STREAM, Code::NoError, &mut self.out);
                frame::write(Kind::Ping, 0, 0, &LEAVING, &mut self.out);
            }
        }
        self.wake_idle();
    }

    /// Who waits for a message hears that none comes.
    fn wake_idle(&mut self) {
        let is_idle = |slot: &&mut Slot| slot.stream == 0;
        for slot in self.slots.iter_mut().flatten().filter(is_idle) {
            wake(&mut slot.reader);
            wake(&mut slot.writer);
        }
    }

    /// What a peer is told whose fault ends the connection.
    pub fn goodbye(&self, code: Code) -> Vec<u8> {
        let last = match self.role {
            Role::Client => 0,
            Role::Server => self.edge,
        };
        let mut goodbye = Vec::new();
        frame::go_away(last, code, &mut goodbye);
        goodbye
    }

    pub(super) fn settings(&mut self, header: Header, payload: &[u8]) -> Result<(), Fault> {
        if header.has(ACK) {
            return match payload.is_empty() && self.has_settings {
                true => Ok(()),
                false => Err(Fault::new(
                    Code::FrameSize,
                    "an acknowledgement says something",
                )),
            };
        }
        if std::mem::replace(&mut self.has_settings, true) {
            // Every stream is looked at for them.
            self.spend()?;
        }
        let settings = read_settings(payload);
        let settings = settings.ok_or(Fault::new(Code::FrameSize, "a setting has six bytes"))?;
        let before = self.peer_window;
        for (setting, value) in settings {
            self.setting(setting, value)?;
        }
        self.change_windows(self.peer_window - before)?;
        self.let_in();
        self.writes();
        frame::write(Kind::Settings, ACK, 0, b"", &mut self.out);
        Ok(())
    }

    fn setting(&mut self, setting: Setting, value: u32) -> Result<(), Fault> {
        match setting {
            Setting::EnablePush if value > 1 || value == 1 && self.role == Role::Client => {
                Err(Fault::protocol("a setting has no such value"))
            }
            Setting::MaxFrameSize if !(1 << 14..1 << 24).contains(&value) => {
                Err(Fault::protocol("a setting has no such value"))
            }
            Setting::MaxConcurrentStreams => {
                let most = usize::try_from(value).unwrap_or(usize::MAX);
                self.peer_streams = most.min(MOST_OPEN);
                Ok(())
            }
            Setting::InitialWindowSize => {
                self.peer_window = i64::from(value);
                match self.peer_window > MOST_WINDOW {
                    true => Err(Fault::new(Code::FlowControl, "a window is too large")),
                    false => Ok(()),
                }
            }
            Setting::HeaderTableSize => {
                self.must_tell_table |= usize::try_from(value).is_ok_and(|size| size < TABLE);
                Ok(())
            }
            Setting::EnablePush
            | Setting::MaxFrameSize
            | Setting::MaxHeaderListSize
            | Setting::Other => Ok(()),
        }
    }

    /// The windows of open streams change by what their first one did, if need be to less than nothing (RFC 9113 §6.9.2).
    fn change_windows(&mut self, more: i64) -> Result<(), Fault> {
        let is_open = |slot: &&mut Slot| slot.stream != 0;
        for slot in self.slots.iter_mut().flatten().filter(is_open) {
            slot.send_window += more;
            if slot.send_window > MOST_WINDOW {
                return Err(Fault::new(Code::FlowControl, "a window is too large"));
            }
            if more > 0 {
                wake(&mut slot.writer);
            }
        }
        Ok(())
    }

    pub(super) fn ping(&mut self, header: Header, payload: &[u8]) -> Result<(), Fault> {
        if payload.len() != 8 {
            return Err(Fault::new(Code::FrameSize, "a ping has eight bytes"));
        }
        if !header.has(ACK) {
            self.writes();
            frame::write(Kind::Ping, ACK, 0, payload, &mut self.out);
        } else if payload == LEAVING && self.goes_away == Leaving::Said {
            // What was on its way has come.
            self.leave_for_good();
        }
        Ok(())
    }

    /// Server: nothing begins any more.
    pub fn leave_for_good(&mut self) {
        if self.goes_away == Leaving::Said && !self.closed {
            self.goes_away = Leaving::Done;
            self.writes();
            frame::go_away(self.edge, Code::NoError, &mut self.out);
            self.wake_if_done();
        }
    }

    pub(super) fn peer_leaves(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let last = number(payload).filter(|_| payload.len() >= 8);
        let last = last.ok_or(Fault::new(Code::FrameSize, "a goodbye has eight bytes"))?;
        self.peer_goes_away = true;
        if self.role == Role::Client {
            let unseen: Vec<u32> = self
                .streams
                .iter()
                .filter(|(stream, _)| *stream > last)
                .map(|(_, place)| *place)
                .collect();
            for place in unseen {
                self.fail(place);
            }
        }
        self.wake_idle();
        self.wake_if_done();
        Ok(())
    }

    pub(super) fn window_update(&mut self, stream: u32, payload: &[u8]) -> Result<(), Fault> {
        let more = number(payload).filter(|_| payload.len() == 4);
        let more = more.ok_or(Fault::new(Code::FrameSize, "a window has four bytes"))?;
        let more = i64::from(more & (u32::MAX >> 1));
        if stream == 0 {
            self.send_window += more;
            if more == 0 {
                return Err(Fault::protocol("a window grows by nothing"));
            }
            if self.send_window > MOST_WINDOW {
                return Err(Fault::new(Code::FlowControl, "a window is too large"));
            }
            while let Some(number) = self.starved.pop_front() {
                if let Some(slot) = self.slot(number) {
                    slot.is_waiting = false;
                    wake(&mut slot.writer);
                }
            }
            return Ok(());
        }
        let Some(place) = self.known(stream)? else {
            return Ok(());
        };
        let Some(slot) = self.slot(place) else {
            return Ok(());
        };
        slot.send_window += more;
        if more == 0 {
            return self.blame(place, Code::Protocol);
        }
        if slot.send_window > MOST_WINDOW {
            return self.blame(place, Code::FlowControl);
        }
        wake(&mut slot.writer);
        Ok(())
    }
}
