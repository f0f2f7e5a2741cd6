//! The operating system asks the process to end.

use tokio::signal::unix::{SignalKind, signal};

/// What asked for the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// A supervisor.
    Terminate,
    /// A person at the terminal.
    Interrupt,
}

/// Resolves when the process is asked to end. Poll it before anything that should be drained is started.
pub async fn wait_for_signals() -> std::io::Result<Shutdown> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => Shutdown::Terminate,
        _ = interrupt.recv() => Shutdown::Interrupt,
    })
}
