//! A set of offsets that lie close together, as bits.

use std::collections::VecDeque;
use std::ops::Range;

const WORD: i64 = 64;

/// Offsets at and above a base that rises.
#[derive(Debug, Default)]
pub(super) struct BitRing {
    /// The offset of the lowest bit.
    origin: i64,
    words: VecDeque<u64>,
}

impl BitRing {
    /// An empty set for offsets at and above `base`.
    pub(super) fn from(base: i64) -> Self {
        Self {
            origin: base,
            words: VecDeque::new(),
        }
    }

    /// The set of the bits of `bytes`, lowest first, from `base` on.
    pub(super) fn from_bytes(base: i64, bytes: &[u8]) -> Self {
        let word = |chunk: &[u8]| {
            let bytes = chunk.iter().zip(0_u32..);
            bytes.fold(0, |word, (byte, index)| {
                word | u64::from(*byte) << (8 * index)
            })
        };
        Self {
            origin: base,
            words: bytes.chunks(8).map(word).collect(),
        }
    }

    /// The bits from the base on, lowest first.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.words
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    pub(super) fn contains(&self, offset: i64) -> bool {
        let (index, bit) = self.place(offset);
        let word = usize::try_from(index).ok().and_then(|i| self.words.get(i));
        word.is_some_and(|word| word & (1 << bit) != 0)
    }

    /// Adds a range; what of it lies below the base is left out.
    pub(super) fn set(&mut self, range: Range<i64>) {
        let mut from = range.start.max(self.origin);
        while from < range.end {
            let (index, bit) = self.place(from);
            let index = usize::try_from(index).unwrap_or(0);
            if index >= self.words.len() {
                self.words.resize(index + 1, 0);
            }
            let count = (range.end - from).min(WORD - i64::from(bit));
            if let Some(word) = self.words.get_mut(index) {
                *word |= ones(count) << bit;
            }
            from += count;
        }
    }

    /// Removes the offsets that follow `base` without a gap; answers the first that is not there.
    pub(super) fn drop_leading(&mut self, mut base: i64) -> i64 {
        while let Some(word) = self.words.front() {
            let (index, bit) = self.place(base);
            if index > 0 {
                self.words.pop_front();
                self.origin += WORD;
                continue;
            }
            let count = i64::from((word >> bit).trailing_ones());
            base += count;
            if count == 0 || i64::from(bit) + count < WORD {
                break;
            }
        }
        let (_, bit) = self.place(base);
        match self.words.front_mut() {
            Some(word) => *word &= !ones(i64::from(bit)),
            None => self.origin = base,
        }
        base
    }

    /// The offset after the highest that is there.
    pub(super) fn end(&self) -> Option<i64> {
        let mut words = self.words.iter().rev().zip(1_i64..);
        let (word, from_end) = words.find(|(word, _)| **word != 0)?;
        let bits = i64::from(word.leading_zeros()) + (from_end - 1) * WORD;
        Some(self.origin + self.len() - bits)
    }

    /// The runs of offsets that are there, in order.
    pub(super) fn runs(&self) -> impl Iterator<Item = Range<i64>> {
        let mut runs = RunIter {
            ring: self,
            at: self.origin,
        };
        std::iter::from_fn(move || runs.next_run())
    }

    fn len(&self) -> i64 {
        i64::try_from(self.words.len()).unwrap_or(i64::MAX) * WORD
    }

    fn place(&self, offset: i64) -> (i64, u32) {
        let distance = offset - self.origin;
        let bit = u32::try_from(distance.rem_euclid(WORD)).unwrap_or(0);
        (distance.div_euclid(WORD), bit)
    }
}

struct RunIter<'a> {
    ring: &'a BitRing,
    at: i64,
}

impl RunIter<'_> {
    fn next_run(&mut self) -> Option<Range<i64>> {
        let start = self.skip(u64::trailing_zeros)?;
        self.at = start;
        let end = self.skip(u64::trailing_ones);
        let end = end.unwrap_or(self.ring.origin + self.ring.len());
        self.at = end;
        Some(start..end)
    }

    /// The next offset at which `count` does not go on; `None` at the end of the ring.
    fn skip(&self, count: impl Fn(u64) -> u32) -> Option<i64> {
        let mut at = self.at;
        loop {
            let (index, bit) = self.ring.place(at);
            let word = self.ring.words.get(usize::try_from(index).ok()?)?;
            let skipped = i64::from(count(word >> bit)).min(WORD - i64::from(bit));
            at += skipped;
            if i64::from(bit) + skipped < WORD {
                return Some(at);
            }
        }
    }
}
fn ones(count: i64) -> u64 {
    if count >= WORD {
        u64::MAX
    } else {
        (1 << count) - 1
    }
}
