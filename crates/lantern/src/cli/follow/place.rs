//! Where following a run was interrupted: one small file for each run, beside the credentials.
//!
//! A convenience, never a reason to fail: a place that cannot be read counts as the start, and one that cannot be
//! kept is not kept. The numbers are no secret.

use std::fs;
use std::path::{Path, PathBuf};

use lantern_types::RunId;

use crate::credentials::private_folder;

/// Runs that nobody followed to their end must not pile up for ever.
const FILES_MAX: usize = 100;

/// The place in one run.
#[derive(Debug)]
pub(crate) struct Place {
    file: PathBuf,
}

impl Place {
    /// The place in `run` that is kept in `folder`.
    pub(crate) fn new(folder: &Path, run: RunId) -> Self {
        Self { file: folder.join(run.to_string()) }
    }

    /// The number of the last event that was shown; 0 when none was.
    pub(crate) fn read(&self) -> u64 {
        fs::read_to_string(&self.file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default()
    }

    /// Keeps the number of the last event that was shown.
    pub(crate) fn keep(&self, seq: u64) {
        if !self.file.exists() {
            self.make_room();
        }
        let _ = fs::write(&self.file, format!("{seq}\n"));
    }

    /// The run is over: the next time it is shown from the start.
    pub(crate) fn forget(&self) {
        let _ = fs::remove_file(&self.file);
    }

    /// Makes the folder, and removes its oldest files when there are too many.
    fn make_room(&self) {
        let Some(folder) = self.file.parent() else { return };
        if private_folder(folder).is_err() {
            return;
        }
        let Ok(entries) = fs::read_dir(folder) else { return };
        let mut files: Vec<_> = entries
            .flatten()
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort();
        let surplus = (files.len() + 1).saturating_sub(FILES_MAX);
        for (_, file) in files.iter().take(surplus) {
            let _ = fs::remove_file(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lantern_types::At;
    use lantern_types::id::uuid7;

    fn run(n: u128) -> RunId {
        RunId::from_uuid(uuid7(At::from_micros(1), n))
    }

    #[test]
    fn places_are_kept_forgotten_and_bounded() {
        let folder = std::env::temp_dir().join(format!("lantern-places-{}", std::process::id()));
        let place = Place::new(&folder, run(0));
        assert_eq!(place.read(), 0);
        place.keep(7);
        place.keep(9);
        assert_eq!(Place::new(&folder, run(0)).read(), 9);
        place.forget();
        assert_eq!(place.read(), 0);
        fs::write(&place.file, "not a number").unwrap();
        assert_eq!(place.read(), 0);
        for n in 1..=150 {
            Place::new(&folder, run(n)).keep(1);
        }
        assert!(fs::read_dir(&folder).unwrap().count() <= FILES_MAX);
        fs::remove_dir_all(&folder).unwrap();
    }
}
