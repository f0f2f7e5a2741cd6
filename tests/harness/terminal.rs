//! A command on a terminal of its own: what a person there sees, and what they type.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::fs::{Mode, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::eventually;

/// All three streams of the command are the terminal; it is killed when dropped.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    /// The person's side.
    keyboard: File,
    screen: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    pub fn start(mut command: Command) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let person = openpt(flags).expect("the system has terminals");
        grantpt(&person).expect("it is ours");
        unlockpt(&person).expect("it can be opened");
        let name = ptsname(&person, Vec::new()).expect("it has a name");
        let theirs = open(name, flags.into(), Mode::empty()).expect("it opens");
        let again = || theirs.try_clone().expect("it can be cloned");
        let child = command
            .stdin(again())
            .stdout(again())
            .stderr(again())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
        let keyboard = File::from(person);
        let mut output = keyboard.try_clone().expect("a file can be cloned");
        let screen = Arc::new(Mutex::new(String::new()));
        let shown = Arc::clone(&screen);
        // It ends with an error when nobody has the other side open any more.
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..count]);
                shown
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push_str(&text);
            }
        });
        Self {
            child,
            keyboard,
            screen,
            reader: Some(reader),
        }
    }

    /// All that was shown, with what was typed.
    pub fn screen(&self) -> String {
        let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        screen.clone()
    }

    /// Waits until this is shown.
    pub async fn shows(&self, text: &str) {
        eventually(&format!("`{text}` is shown"), || async {
            let screen = self.screen();
            if screen.contains(text) {
                Ok(())
            } else {
                Err(screen)
            }
        })
        .await;
    }

    pub fn press(&mut self, keys: &str) {
        self.keyboard
            .write_all(keys.as_bytes())
            .expect("the terminal takes keys");
    }

    /// Waits until the command has ended; its exit code, and all that was shown.
    pub async fn end(mut self) -> (i32, String) {
        let status = eventually("the command ends", || {
            let ended = self.child.try_wait().expect("a child can be waited for");
            let screen = self.screen();
            async move { ended.ok_or(screen) }
        })
        .await;
        if let Some(reader) = self.reader.take() {
            reader.join().expect("it does not panic");
        }
        (status.code().unwrap_or(-1), self.screen())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
