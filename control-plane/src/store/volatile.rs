//! A storage that forgets on demand: every write that was not yet synced is gone, as after a power cut.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Storage in memory. Clones share it; [`VolatileBackend::power_cut`] gives what a reboot would find.
#[derive(Debug, Clone, Default)]
pub struct VolatileBackend {
    images: Arc<Mutex<Images>>,
}

#[derive(Debug, Default)]
struct Images {
    /// What reads see.
    current: Vec<u8>,
    /// What survives.
    synced: Vec<u8>,
    syncs: u64,
    /// The machine is off: nothing more gets through.
    off: bool,
}

impl VolatileBackend {
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts the power: this storage fails from now on, and the answer holds only what had been synced.
    pub fn power_cut(&self) -> VolatileBackend {
        let mut images = self.images();
        images.off = true;
        let synced = images.synced.clone();
        VolatileBackend {
            images: Arc::new(Mutex::new(Images {
                current: synced.clone(),
                synced,
                syncs: 0,
                off: false,
            })),
        }
    }

    /// Every byte that is persistent.
    pub fn synced_bytes(&self) -> Vec<u8> {
        self.images().synced.clone()
    }

    /// How often something was made durable.
    pub fn syncs(&self) -> u64 {
        self.images().syncs
    }

    fn images(&self) -> MutexGuard<'_, Images> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn powered(&self) -> io::Result<MutexGuard<'_, Images>> {
        let images = self.images();
        if images.off {
            return Err(io::Error::other("the power is cut"));
        }
        Ok(images)
    }
}

impl redb::StorageBackend for VolatileBackend {
    fn len(&self) -> io::Result<u64> {
        u64::try_from(self.powered()?.current.len()).map_err(io::Error::other)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let images = self.powered()?;
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let source = start
            .checked_add(out.len())
            .and_then(|end| images.current.get(start..end))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(source);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.powered()?.current.resize(len, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut images = self.powered()?;
        images.synced = images.current.clone();
        images.syncs += 1;
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut images = self.powered()?;
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        start
            .checked_add(data.len())
            .and_then(|end| images.current.get_mut(start..end))
            .ok_or(io::ErrorKind::UnexpectedEof)?
            .copy_from_slice(data);
        Ok(())
    }
}
