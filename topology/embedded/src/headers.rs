//! Headers as one blob: for each the length of its name, the name, the length of its value
//! (all ones for null) and the value. Lengths are 32 bits, little-endian.

use bytes::{Buf, BufMut, Bytes};

use topology::Headers;

const NULL: u32 = u32::MAX;

pub(super) fn encode(headers: &Headers) -> Vec<u8> {
    let mut blob = Vec::new();
    for (name, value) in headers {
        blob.put_u32_le(length(name.as_bytes()));
        blob.put_slice(name.as_bytes());
        match value {
            None => blob.put_u32_le(NULL),
            Some(value) => {
                blob.put_u32_le(length(value));
                blob.put_slice(value);
            }
        }
    }
    blob
}

/// `None` where the blob is damaged.
pub(super) fn decode(mut blob: Bytes) -> Option<Headers> {
    let mut headers = Headers::new();
    while blob.has_remaining() {
        let length = blob.try_get_u32_le().ok()?;
        let name = take(&mut blob, length)?;
        let name = String::from_utf8(name.to_vec()).ok()?;
        let value = match blob.try_get_u32_le().ok()? {
            NULL => None,
            length => Some(take(&mut blob, length)?),
        };
        headers.push((name, value));
    }
    Some(headers)
}

fn take(blob: &mut Bytes, length: u32) -> Option<Bytes> {
    let length = usize::try_from(length).ok()?;
    (length <= blob.len()).then(|| blob.split_to(length))
}

/// A record with a length beyond 32 bits is refused long before.
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(NULL)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn headers_come_back_as_they_were(
            headers in prop::collection::vec(
                (".{0,20}", prop::option::of(prop::collection::vec(any::<u8>(), 0..40))),
                0..8,
            )
        ) {
            let headers: Headers = headers
                .into_iter()
                .map(|(name, value)| (name, value.map(Bytes::from)))
                .collect();
            prop_assert_eq!(decode(encode(&headers).into()), Some(headers));
        }

        #[test]
        fn a_damaged_blob_is_told(blob in prop::collection::vec(any::<u8>(), 1..8)) {
            // No header is shorter than its two lengths.
            prop_assume!(blob.len() < 8);
            prop_assert_eq!(decode(blob.into()), None);
        }
    }
}
