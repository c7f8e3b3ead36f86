//! Which records have been handled: a bit each, so that none is missed and none counted twice.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::PARTITIONS;

const BITS: u64 = u64::BITS as u64;
/// So many empty words, 65,536 records, and nothing behind them is looked for: there is nothing, or
/// it is counted later.
const AHEAD: usize = 1_024;

/// Marked by any thread.
#[derive(Debug)]
pub(crate) struct Seen {
    words: Vec<AtomicU64>,
    words_each: usize,
    repeats: AtomicU64,
}

impl Seen {
    /// None of `records_each` records in each partition.
    pub(crate) fn none(records_each: u64) -> Self {
        let words_each = usize::try_from(records_each.div_ceil(BITS)).unwrap();
        let words = words_each * usize::from(PARTITIONS);
        Self {
            words: std::iter::repeat_with(AtomicU64::default)
                .take(words)
                .collect(),
            words_each,
            repeats: AtomicU64::default(),
        }
    }

    /// Takes over what another process had handled.
    pub(crate) fn restore(&self, from: &Path) {
        let bytes = std::fs::read(from).unwrap();
        let (words, rest) = bytes.as_chunks();
        assert!(rest.is_empty() && words.len() == self.words.len());
        for (word, bytes) in self.words.iter().zip(words) {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
    }

    pub(crate) fn mark(&self, partition: i32, offset: i64) {
        let partition = usize::try_from(partition).unwrap();
        let offset = offset.cast_unsigned();
        let word = partition * self.words_each + usize::try_from(offset / BITS).unwrap();
        let bit = 1 << (offset % BITS);
        if self.words[word].fetch_or(bit, Ordering::Relaxed) & bit != 0 {
            self.repeats.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn repeats(&self) -> u64 {
        self.repeats.load(Ordering::Relaxed)
    }

    /// Where the bits are, and how many bytes of them: for a process that looks on.
    pub(crate) fn place(&self) -> (usize, usize) {
        (self.words.as_ptr().addr(), size_of_val(&*self.words))
    }
}

/// Counts what is marked; words that were full are not looked at again.
#[derive(Debug)]
pub(crate) struct Counter<'a> {
    partitions: Vec<(&'a [AtomicU64], u64)>,
}

impl<'a> Counter<'a> {
    pub(crate) fn new(seen: &'a Seen) -> Self {
        let partitions = seen.words.chunks(seen.words_each);
        Self {
            partitions: partitions.map(|words| (words, 0)).collect(),
        }
    }

    pub(crate) fn count(&mut self) -> u64 {
        let counts = self.partitions.iter_mut().map(|(words, full)| {
            while let Some((first, rest)) = words.split_first()
                && first.load(Ordering::Relaxed) == u64::MAX
            {
                (*words, *full) = (rest, *full + BITS);
            }
            let ones = words.chunks(AHEAD).map(ones).take_while(|ones| *ones > 0);
            *full + ones.sum::<u64>()
        });
        counts.sum()
    }
}

fn ones(words: &[AtomicU64]) -> u64 {
    let ones = |word: &AtomicU64| u64::from(word.load(Ordering::Relaxed).count_ones());
    words.iter().map(ones).sum()
}
