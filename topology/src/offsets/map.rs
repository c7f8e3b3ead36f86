//! The text that a commit carries: which offsets above the committed one are complete.
//!
//! `wt1:` and then, in base64url without padding: flags (1 byte), the span in offsets (varint),
//! the payload, and a CRC-32C over the committed offset (8 bytes, big-endian) and all before it.
//! Bits 0–1 of the flags are the payload's form: 1, a bitmap from the committed offset on, lowest
//! bit first, where 1 is complete; 2, runs as varints, in turn open and complete, beginning with
//! open. Bit 3 says that more is complete above the span. A reader refuses any other bit. No other
//! user of commit metadata writes a `:`, so theirs is never taken for ours.

use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crc::{CRC_32_ISCSI, Crc};

use super::bits::BitRing;

const PREFIX: &str = "wt1:";
const BITMAP: u8 = 1;
const RUNS: u8 = 2;
const TRUNCATED: u8 = 8;
/// How far above the committed offset one is looked at: bounds what a reader makes of a text, and
/// what a tracker keeps.
pub(super) const SPAN_MAX: u64 = 1 << 24;
const WORD_BITS: u64 = 64;
const CHECK_BYTES: usize = 4;
const VARINT_MAX: usize = 10;
const CHECK: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// Metadata beside a committed offset is not what this engine writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidOffsetMap {
    /// Another program's, or a later version's.
    #[error("it does not begin with {PREFIX}")]
    Foreign,
    /// It was cut, changed, or written beside another offset.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}

/// The text for the `complete` ranges above `base`; empty when there are none or none fits.
pub(crate) fn encode(base: i64, complete: &[Range<i64>], limit: usize) -> String {
    let room = limit.saturating_sub(PREFIX.len()) / 4 * 3;
    let room = room.saturating_sub(1 + VARINT_MAX + CHECK_BYTES);
    let widest = base.saturating_add_unsigned(SPAN_MAX);
    let within = complete.iter().filter(|range| range.start < widest);
    let cut: Vec<_> = within.map(|r| r.start..r.end.min(widest)).collect();
    let is_cut = complete.last().is_some_and(|last| last.end > widest);
    let complete = &cut;
    let whole = complete.last().map_or(0, |last| distance(base, last.end));
    let runs = RunLengths::fitting(base, complete, room);
    let runs_are_all = runs.span == whole && runs.bytes.len() <= Bitmap::len(whole);
    let (
        form,
        Payload {
            span,
            bytes: payload,
        },
    ) = if runs_are_all {
        (RUNS, runs)
    } else {
        let bitmap = Bitmap::fitting(base, complete, room);
        if bitmap.span >= runs.span {
            (BITMAP, bitmap)
        } else {
            (RUNS, runs)
        }
    };
    if span == 0 {
        return String::new();
    }
    let truncated = if span < whole || is_cut { TRUNCATED } else { 0 };
    let mut bytes = vec![form | truncated];
    put_varint(&mut bytes, span);
    bytes.extend(payload);
    seal(base, bytes)
}

/// The text of a body with its checksum.
pub(super) fn seal(base: i64, mut body: Vec<u8>) -> String {
    body.extend(check(base, &body).to_be_bytes());
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(body))
}

/// The complete ranges above `base` that a text tells of.
pub(crate) fn decode(base: i64, text: &str) -> Result<Vec<Range<i64>>, InvalidOffsetMap> {
    const SHORT: InvalidOffsetMap = InvalidOffsetMap::Damaged("it is too short");
    let coded = text.strip_prefix(PREFIX).ok_or(InvalidOffsetMap::Foreign)?;
    let bytes = URL_SAFE_NO_PAD.decode(coded);
    let bytes = bytes.or(Err(InvalidOffsetMap::Damaged("it is no base64url")))?;
    let (body, written) = bytes.split_last_chunk::<CHECK_BYTES>().ok_or(SHORT)?;
    if check(base, body) != u32::from_be_bytes(*written) {
        return Err(InvalidOffsetMap::Damaged("its checksum is another's"));
    }
    let (flags, rest) = body.split_first().ok_or(SHORT)?;
    let (span, payload) = take_varint(rest).ok_or(SHORT)?;
    // Bits are looked at in words, beyond the last of the span too.
    if span > SPAN_MAX || base.checked_add_unsigned(span + WORD_BITS).is_none() {
        return Err(InvalidOffsetMap::Damaged("its span is too wide"));
    }
    match flags & !TRUNCATED {
        BITMAP => Bitmap::read(base, span, payload),
        RUNS => RunLengths::read(base, span, payload),
        _ => return Err(InvalidOffsetMap::Damaged("its form is unknown")),
    }
    .ok_or(InvalidOffsetMap::Damaged("its payload is not of its span"))
}

/// A payload and how many offsets from the base on it tells of.
#[derive(Default)]
struct Payload {
    span: u64,
    bytes: Vec<u8>,
}

struct Bitmap;

impl Bitmap {
    /// How many bytes the whole would take.
    fn len(whole: u64) -> usize {
        index_of(whole.div_ceil(8))
    }

    fn fitting(base: i64, complete: &[Range<i64>], room: usize) -> Payload {
        let offsets = i64::try_from(room).unwrap_or(i64::MAX).saturating_mul(8);
        let limit = base.saturating_add(offsets);
        let mut bits = BitRing::from(base);
        let mut span = 0;
        for range in complete.iter().filter(|range| range.start < limit) {
            let end = range.end.min(limit);
            bits.set(range.start..end);
            span = distance(base, end);
        }
        let mut bytes = bits.to_bytes();
        bytes.truncate(Self::len(span));
        Payload { span, bytes }
    }

    fn read(base: i64, span: u64, bytes: &[u8]) -> Option<Vec<Range<i64>>> {
        let bits = (bytes.len() == Self::len(span)).then(|| BitRing::from_bytes(base, bytes))?;
        let end = base.checked_add_unsigned(span)?;
        let runs: Vec<_> = bits.runs().collect();
        runs.last()
            .is_none_or(|last| last.end <= end)
            .then_some(runs)
    }
}

struct RunLengths;

impl RunLengths {
    fn fitting(base: i64, complete: &[Range<i64>], room: usize) -> Payload {
        let mut payload = Payload::default();
        let mut at = base;
        for range in complete {
            let before = payload.bytes.len();
            put_varint(&mut payload.bytes, distance(at, range.start));
            put_varint(&mut payload.bytes, distance(range.start, range.end));
            if payload.bytes.len() > room {
                payload.bytes.truncate(before);
                break;
            }
            at = range.end;
            payload.span = distance(base, at);
        }
        payload
    }

    fn read(base: i64, span: u64, mut bytes: &[u8]) -> Option<Vec<Range<i64>>> {
        let mut ranges = Vec::new();
        let mut at = 0_u64;
        while !bytes.is_empty() {
            let (open, rest) = take_varint(bytes)?;
            let (complete, rest) = take_varint(rest)?;
            bytes = rest;
            let start = at.checked_add(open)?;
            at = start.checked_add(complete)?;
            if at > span || complete == 0 {
                return None;
            }
            ranges.push(base.checked_add_unsigned(start)?..base.checked_add_unsigned(at)?);
        }
        (at == span).then_some(ranges)
    }
}

fn check(base: i64, body: &[u8]) -> u32 {
    let mut digest = CHECK.digest();
    digest.update(&base.to_be_bytes());
    digest.update(body);
    digest.finalize()
}

fn distance(from: i64, to: i64) -> u64 {
    u64::try_from(to.saturating_sub(from)).unwrap_or(0)
}

fn index_of(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

/// LEB128, as Protocol Buffers' varints.
fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or(0);
        value >>= 7;
        if value == 0 {
            return bytes.push(low);
        }
        bytes.push(low | 0x80);
    }
}

fn take_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().take(VARINT_MAX).enumerate() {
        let shift = 7 * u32::try_from(index).ok()?;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(index + 1..)?));
        }
    }
    None
}
