//! Whether SQLite's write-ahead log is whole, which SQLite itself does not ask.
//!
//! It reads a log up to the first frame whose checksum is wrong, and takes what follows for what a power loss left. That is so at the
//! end of a log. In the middle of one it is damage, and everything after it would be gone without a word: a young database lies
//! almost wholly in its log. The two are told apart by the commits behind that follow one another. Each commit is on the disk before the
//! next one is written, but for a few that wait for the sync of another, so behind a loss of power few are in a row, and behind
//! damage as many as were made since. What attempts that failed have left does not follow: each began at the same place.
//!
//! The format: <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::error::{Error, Result};

/// More commits than ever wait together for one sync.
const UNSYNCED_MAX: u64 = 8;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// The last bit says which way the words of checksums are read.
const MAGIC: u32 = 0x377f_0682;

/// Refuses a log that is damaged in its middle. One that is not there, or that only lacks its end, is in order.
pub(super) fn check(path: &Path) -> Result<()> {
    let doing = || format!("read the log {}", path.display());
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::file(doing(), error)),
    };
    let found = Log::read(&file).map_err(|error| Error::file(doing(), error))?;
    match found.commits_behind {
        0 => Ok(()),
        few if few <= UNSYNCED_MAX => {
            let commits = found.commits;
            tracing::warn!(commits, lost = few, "the log breaks off, as a power loss leaves it");
            Ok(())
        }
        lost => {
            let words = format!(
                "the log {} is damaged after {} commits, and {lost} more behind that would be lost",
                path.display(),
                found.commits
            );
            Err(Error::Corrupt(words.into()))
        }
    }
}

/// What a log holds.
#[derive(Debug, PartialEq, Eq)]
struct Log {
    /// Commits that SQLite reads.
    commits: u64,
    /// Commits of the same generation in one row behind the first frame that it does not.
    commits_behind: u64,
}

impl Log {
    fn read(file: &File) -> io::Result<Self> {
        let none = Self { commits: 0, commits_behind: 0 };
        let mut header = [0; HEADER];
        if !fill(file, &mut header, 0)? {
            return Ok(none);
        }
        let sound = Header::parse(&header);
        // Without a header that can be read, the first frame tells the generation, and SQLite's usual page the size.
        let (salts, page) = match &sound {
            Some(header) => (header.salts, header.page),
            None => {
                let mut first = [0; FRAME_HEADER];
                if !fill(file, &mut first, HEADER as u64)? {
                    return Ok(none);
                }
                (of_frame(&first), 4_096)
            }
        };
        if salts == [0; 8] {
            return Ok(none);
        }
        let (mut frame, mut log) = (vec![0; FRAME_HEADER + page], none);
        let mut at = HEADER as u64;
        if let Some(&Header { mut sums, is_big, .. }) = sound.as_ref() {
            while fill(file, &mut frame, at)? {
                let (head, page) = frame.split_at(FRAME_HEADER);
                sums = add(sums, head.get(..8).unwrap_or_default(), is_big);
                sums = add(sums, page, is_big);
                if of_frame(head) != salts || [word(head, 16), word(head, 20)] != sums {
                    break;
                }
                log.commits += u64::from(commits(head));
                at += frame.len() as u64;
            }
        }
        // Commits that follow one another were all made; what attempts that failed have left lies side by side and does not follow.
        let is_big = sound.as_ref().map_or(cfg!(target_endian = "big"), |header| header.is_big);
        let (mut before, mut row): (Option<[u32; 2]>, u64) = (None, 0);
        while fill(file, &mut frame, at)? {
            let (head, page) = frame.split_at(FRAME_HEADER);
            let own = [word(head, 16), word(head, 20)];
            let summed = |sums| add(add(sums, head.get(..8).unwrap_or_default(), is_big), page, is_big);
            let of_this = of_frame(head) == salts;
            let follows = of_this && before.is_some_and(|sums| summed(sums) == own);
            row = if follows { row } else { 0 } + u64::from(of_this && commits(head));
            log.commits_behind = log.commits_behind.max(row);
            before = of_this.then_some(own);
            at += frame.len() as u64;
        }
        Ok(log)
    }
}

/// The header of a log, whose checksum is right.
struct Header {
    salts: [u8; 8],
    page: usize,
    sums: [u32; 2],
    is_big: bool,
}

impl Header {
    fn parse(bytes: &[u8; HEADER]) -> Option<Self> {
        let (magic, page) = (word(bytes, 0), word(bytes, 8));
        let is_big = magic & 1 == 1;
        let sums = add([0; 2], &bytes[..24], is_big);
        let sound = magic | 1 == MAGIC | 1
            && (512..=65_536).contains(&page)
            && page.is_power_of_two()
            && [word(bytes, 24), word(bytes, 28)] == sums;
        let mut salts = [0; 8];
        salts.copy_from_slice(&bytes[16..24]);
        let page = usize::try_from(page).ok()?;
        sound.then_some(Self { salts, page, sums, is_big })
    }
}

/// The salts of a frame, which are its log's.
fn of_frame(head: &[u8]) -> [u8; 8] {
    let mut salts = [0; 8];
    salts.iter_mut().zip(head.iter().skip(8)).for_each(|(to, from)| *to = *from);
    salts
}

/// Whether a frame is the last of a commit.
fn commits(head: &[u8]) -> bool {
    word(head, 4) != 0
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.iter().skip(at).take(4).fold(0, |word, byte| word << 8 | u32::from(*byte))
}

/// The checksum goes on over these bytes, two words at a time.
fn add([mut s0, mut s1]: [u32; 2], bytes: &[u8], is_big: bool) -> [u32; 2] {
    for pair in bytes.chunks_exact(8) {
        let [a, b] = [word(pair, 0), word(pair, 4)].map(|word| if is_big { word } else { word.swap_bytes() });
        s0 = s0.wrapping_add(a).wrapping_add(s1);
        s1 = s1.wrapping_add(b).wrapping_add(s0);
    }
    [s0, s1]
}

/// Whether there were bytes enough.
fn fill(file: &File, into: &mut [u8], at: u64) -> io::Result<bool> {
    match file.read_exact_at(into, at) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rusqlite::Connection;

    use super::*;

    /// The log of a database with so many commits after those that made it, as a process leaves it that is killed.
    struct Left {
        path: PathBuf,
        whole: Vec<u8>,
        conn: Connection,
    }

    impl Left {
        fn new(name: &str, commits: u32) -> Self {
            let folder = std::env::temp_dir().join(format!("lantern-wal-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir_all(&folder).unwrap();
            let conn = Connection::open(folder.join("db")).unwrap();
            conn.execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (x)",
            )
            .unwrap();
            for n in 0..commits {
                conn.execute("INSERT INTO t VALUES (zeroblob(3000 + ?1))", [n]).unwrap();
            }
            let path = folder.join("left");
            let whole = std::fs::read(folder.join("db-wal")).unwrap();
            Self { path, whole, conn }
        }

        fn check(&self, bytes: &[u8]) -> Result<()> {
            std::fs::write(&self.path, bytes).unwrap();
            check(&self.path)
        }

        fn log(&self, bytes: &[u8]) -> Log {
            std::fs::write(&self.path, bytes).unwrap();
            Log::read(&File::open(&self.path).unwrap()).unwrap()
        }
    }

    impl Drop for Left {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(self.path.parent().unwrap());
        }
    }

    #[test]
    fn a_log_that_is_whole_or_lacks_its_end_is_in_order() {
        let left = Left::new("whole", 40);
        assert_eq!(left.log(&left.whole), Log { commits: 41, commits_behind: 0 });
        assert!(left.check(&[]).is_ok());
        assert!(check(&left.path.with_extension("none")).is_ok());
        let room = [left.whole.as_slice(), &vec![0; 100_000]].concat();
        assert_eq!(left.log(&room), Log { commits: 41, commits_behind: 0 });
        for end in (0..left.whole.len()).step_by(4_999) {
            assert!(left.check(&left.whole[..end]).is_ok(), "cut at {end}");
        }
        // The last commit was not written in order.
        let mut torn = left.whole.clone();
        let end = torn.len();
        torn[end - 4_096] ^= 1;
        assert_eq!(left.log(&torn), Log { commits: 40, commits_behind: 1 });
        assert!(left.check(&torn).is_ok());
    }

    #[test]
    fn damage_in_the_middle_is_told_from_a_loss_of_power() {
        let left = Left::new("damaged", 60);
        let frame = FRAME_HEADER + 4_096;
        for at in (0..left.whole.len() - 30 * frame).step_by(10_007) {
            let mut damaged = left.whole.clone();
            damaged[at] ^= 0x10;
            assert!(matches!(left.check(&damaged), Err(Error::Corrupt(_))), "byte {at}");
        }
        let mut blank = left.whole.clone();
        blank[..HEADER].fill(0);
        assert!(left.check(&blank).is_err(), "a header that is gone");
    }

    #[test]
    fn what_attempts_that_failed_have_left_is_no_damage() {
        let left = Left::new("failed", 40);
        let frame = FRAME_HEADER + 4_096;
        let commits: Vec<&[u8]> = left.whole[HEADER..].chunks(frame).filter(|frame| commits(frame)).collect();
        // Each began at the same place as the one before it, and was longer or shorter: their ends lie side by side, each of one commit.
        let mut failed = left.whole.clone();
        failed.extend(commits.iter().rev().flat_map(|frame| frame.iter()));
        assert!(left.log(&failed).commits_behind <= 1, "{:?}", left.log(&failed));
        assert!(left.check(&failed).is_ok());
    }

    #[test]
    fn what_an_earlier_generation_left_behind_does_not_count() {
        let left = Left::new("again", 60);
        let wal = left.path.with_file_name("db-wal");
        left.conn.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).unwrap();
        left.conn.execute("INSERT INTO t VALUES (1)", []).unwrap();
        let again = std::fs::read(wal).unwrap();
        assert_eq!(again.len(), left.whole.len(), "it begins anew in the same file");
        assert_eq!(left.log(&again), Log { commits: 1, commits_behind: 0 });
    }
}
