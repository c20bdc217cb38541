//! Bodies that kombu compressed, unpacked within a bound.

use std::io::{self, Read};

/// Why a compressed body could not be unpacked. Never carries any of the body.
#[derive(Debug, thiserror::Error)]
pub enum CompressionError {
    /// The header names a method that is not supported. Kombu knows brotli, lzma and
    /// zstd too where their libraries are installed; oslo.messaging documents only these two.
    #[error("compression {0:?} is not supported, only gzip and bzip2 are")]
    Unknown(String),
    /// The header says compressed, the bytes are neither zlib nor gzip nor bzip2.
    #[error("the body is not compressed, although its header says {0:?}")]
    NotCompressed(String),
    /// The stream is damaged or cut short.
    #[error("the compressed body is damaged: {0}")]
    Damaged(io::Error),
    /// Unpacked it would be larger than the limit; unpacking stopped there.
    #[error("the compressed body unpacks to more than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
}

/// The header's values, by kombu's registry (`kombu/compression.py`): the MIME type that
/// it sends and the aliases that its decoder takes.
const KNOWN: [&str; 6] = [
    "application/x-gzip",
    "gzip",
    "zlib",
    "application/x-bz2",
    "bzip2",
    "bzip",
];

/// Unpacks `body`, whose `compression` header is `compression`, to at most `limit` bytes.
///
/// Header and content do not agree in practice: what kombu calls gzip is a zlib stream.
/// So the header only says *that* the body is compressed, the first bytes say how. Real
/// gzip is understood as well, should a kombu ever send what its header promises.
pub fn decompress(
    body: &[u8],
    compression: &str,
    limit: usize,
) -> Result<Vec<u8>, CompressionError> {
    if !KNOWN.contains(&compression) {
        return Err(CompressionError::Unknown(excerpt(compression)));
    }
    match body {
        // RFC 1950: method 8 in the low half, and the two bytes a multiple of 31.
        [first, second, ..]
            if first & 0x0f == 8 && u16::from_be_bytes([*first, *second]).is_multiple_of(31) =>
        {
            read_within(flate2::read::ZlibDecoder::new(body), limit)
        }
        // RFC 1952.
        [0x1f, 0x8b, ..] => read_within(flate2::read::GzDecoder::new(body), limit),
        [b'B', b'Z', b'h', ..] => read_within(bzip2::read::BzDecoder::new(body), limit),
        _ => Err(CompressionError::NotCompressed(excerpt(compression))),
    }
}

/// One byte more than allowed is asked for, so that "exactly the limit" and "more" differ.
fn read_within(stream: impl Read, limit: usize) -> Result<Vec<u8>, CompressionError> {
    let mut unpacked = Vec::new();
    stream
        .take((limit as u64).saturating_add(1))
        .read_to_end(&mut unpacked)
        .map_err(CompressionError::Damaged)?;
    if unpacked.len() > limit {
        return Err(CompressionError::TooLarge { limit });
    }
    Ok(unpacked)
}

/// A header comes from outside: enough of it to name it, not enough to flood a log.
fn excerpt(header: &str) -> String {
    header.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1 << 20;

    fn zlib(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn bzip2(data: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_bytes_tell_not_the_header() {
        for header in KNOWN {
            for body in [zlib(b"hello"), gzip(b"hello"), bzip2(b"hello")] {
                assert_eq!(decompress(&body, header, LIMIT).unwrap(), b"hello");
            }
        }
    }

    #[test]
    fn an_unknown_method_is_named() {
        let error = decompress(&zlib(b"hello"), "application/zstd", LIMIT).unwrap_err();
        assert_eq!(
            error.to_string(),
            "compression \"application/zstd\" is not supported, only gzip and bzip2 are"
        );
        let error = decompress(b"", &"x".repeat(10_000), LIMIT).unwrap_err();
        assert!(error.to_string().len() < 120);
    }

    #[test]
    fn plain_or_empty_bytes_under_a_compression_header_are_an_error() {
        for body in [&b""[..], b"{}", b"\x78", b"\x1f", b"BZ", b"\x78\x00\x00"] {
            assert!(matches!(
                decompress(body, "application/x-gzip", LIMIT),
                Err(CompressionError::NotCompressed(_))
            ));
        }
    }

    #[test]
    fn a_stream_cut_short_is_an_error() {
        let data: Vec<u8> = (0..20_000u32).flat_map(u32::to_le_bytes).collect();
        for body in [zlib(&data), gzip(&data), bzip2(&data)] {
            for end in [body.len() / 2, body.len() - 1] {
                assert!(
                    matches!(
                        decompress(&body[..end], "gzip", LIMIT),
                        Err(CompressionError::Damaged(_))
                    ),
                    "{:?} cut at {end}",
                    &body[..2]
                );
            }
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let zeroes = vec![0; 8 << 20];
        for body in [zlib(&zeroes), gzip(&zeroes), bzip2(&zeroes)] {
            assert!(body.len() < 100_000);
            assert!(matches!(
                decompress(&body, "gzip", LIMIT),
                Err(CompressionError::TooLarge { limit: LIMIT })
            ));
        }
    }

    #[test]
    fn exactly_the_limit_is_allowed() {
        let body = zlib(&[b'x'; 1000]);
        assert_eq!(decompress(&body, "gzip", 1000).unwrap().len(), 1000);
        assert!(decompress(&body, "gzip", 999).is_err());
        assert_eq!(decompress(&body, "gzip", usize::MAX).unwrap().len(), 1000);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            start in prop::sample::select(vec![&b""[..], b"\x78\x9c", b"\x1f\x8b\x08\x00", b"BZh9"]),
            rest in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let body = [start, &rest].concat();
            let _ = decompress(&body, "application/x-bz2", 4096);
        }

        #[test]
        fn a_damaged_stream_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            for mut body in [zlib(&[7; 3000]), gzip(&[7; 3000]), bzip2(&[7; 3000])] {
                let at = at.index(body.len());
                body[at] = byte;
                let _ = decompress(&body, "gzip", LIMIT);
            }
        }
    }
}
