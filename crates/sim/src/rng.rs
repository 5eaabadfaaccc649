//! Seeded dice: splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
//!
//! Small, quick and the same everywhere. Streams for different purposes are split off by name, so that removing one
//! step of a simulation does not change what the others see. Not for secrets.

/// A stream of dice.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The stream of a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The stream of a seed for one purpose: another label is another stream (FNV-1a).
    pub fn of(seed: u64, label: &str) -> Self {
        let hash = label.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut rng = Self(seed ^ hash);
        rng.roll();
        rng
    }

    /// The next 64 bits.
    pub const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `n - 1`; 0 when `n` is 0. The bias of the remainder does not matter here.
    pub const fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.roll() % n }
    }

    /// From `low` to `high`, both included.
    pub const fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// The same for the narrower type that most limits have.
    pub fn within_u32(&mut self, low: u32, high: u32) -> u32 {
        u32::try_from(self.within(u64::from(low), u64::from(high))).unwrap_or(high)
    }

    /// True `percent` times out of a hundred.
    pub const fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A place in a list of `len`; `None` when it is empty.
    pub fn place(&mut self, len: usize) -> Option<usize> {
        if len == 0 {
            return None;
        }
        usize::try_from(self.below(len as u64)).ok()
    }

    /// One of `items`; `None` when there are none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.place(items.len())?)
    }

    /// One of `items`, or `otherwise` when there are none.
    pub fn one_of<T: Copy>(&mut self, items: &[T], otherwise: T) -> T {
        self.pick(items).copied().unwrap_or(otherwise)
    }

    /// One of the table's values, each as often as its weight says; `otherwise` when the table is empty.
    pub fn weighted<T: Copy>(&mut self, table: &[(u64, T)], otherwise: T) -> T {
        let mut left = self.below(table.iter().map(|(weight, _)| weight).sum());
        for (weight, value) in table {
            if left < *weight {
                return *value;
            }
            left -= weight;
        }
        otherwise
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        let mut rng = Rng::new(1_234_567);
        let rolls: Vec<u64> = (0..3).map(|_| rng.roll()).collect();
        assert_eq!(rolls, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn streams_differ_by_label_and_stay_in_range() {
        assert_ne!(Rng::of(1, "a").roll(), Rng::of(1, "b").roll());
        let mut rng = Rng::of(1, "range");
        assert!((0..1_000).all(|_| (3..=5).contains(&rng.within(3, 5))));
        assert_eq!((rng.below(0), rng.place(0), rng.pick::<u8>(&[])), (0, None, None));
        let heads = (0..10_000).filter(|_| rng.weighted(&[(1, true), (3, false)], false)).count();
        assert!((2_200..2_800).contains(&heads), "{heads}");
    }
}
