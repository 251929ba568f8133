//! Request bodies, read whole within a limit of bytes and of time.
//!
//! The limit counts after decompression and is met while the body streams in, so that memory does
//! not grow with the size of what is refused. A body whose declared length is beyond the limit is
//! not read at all.

use super::kinds::BROKEN_BODY;
use super::manners::{Encoding, Head};
use crate::wire::problem::{Problem, kinds};
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use std::io::{self, Write};
use std::time::Duration;

/// The largest window that a zstd body may ask for, as a power of two: what RFC 8878 tells decoders
/// to support, 8 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// How much of a body is read, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimits {
    /// Bytes, after decompression.
    pub bytes_max: usize,
    /// From the first byte to the last.
    pub timeout: Duration,
}

/// Reads a body to its end.
pub(super) async fn read_body(
    head: &Head<'_>,
    body: Body,
    limits: BodyLimits,
) -> Result<Bytes, Problem> {
    let encoding = head.encoding()?;
    let declared = head.content_length;
    if encoding == Encoding::Identity
        && let Some(length) = declared.filter(|length| *length > limits.bytes_max as u64)
    {
        return Err(too_large(limits.bytes_max, Some(length)));
    }
    let reading = async {
        match encoding {
            Encoding::Identity => collect(body, declared, limits.bytes_max).await,
            Encoding::Gzip => {
                let sink = Bounded::new(limits.bytes_max);
                let mut decoder = flate2::write::MultiGzDecoder::new(sink);
                feed(body, &mut decoder, limits.bytes_max).await?;
                let sink = decoder.finish().map_err(|error| damaged(&error, limits.bytes_max))?;
                Ok(Bytes::from(sink.bytes))
            }
            Encoding::Zstd => decompress_zstd(body, limits.bytes_max).await,
        }
    };
    tokio::time::timeout(limits.timeout, reading).await.unwrap_or_else(|_| {
        let detail = format!("the body was not complete after {} ms", limits.timeout.as_millis());
        Err(Problem::new(&kinds::REQUEST_TIMEOUT, detail))
    })
}

async fn collect(
    mut body: Body,
    declared: Option<u64>,
    bytes_max: usize,
) -> Result<Bytes, Problem> {
    let Some(first) = next_chunk(&mut body).await? else {
        return Ok(Bytes::new());
    };
    // A small body arrives in one piece: it is handed on as it is.
    if declared == Some(first.len() as u64) {
        return Ok(first);
    }
    let mut all = BytesMut::with_capacity(
        declared.map_or(first.len(), |length| length as usize).min(bytes_max),
    );
    let mut chunk = Some(first);
    while let Some(bytes) = chunk {
        if all.len() + bytes.len() > bytes_max {
            return Err(too_large(bytes_max, declared));
        }
        all.extend_from_slice(&bytes);
        chunk = next_chunk(&mut body).await?;
    }
    Ok(all.freeze())
}

async fn next_chunk(body: &mut Body) -> Result<Option<Bytes>, Problem> {
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|error| Problem::new(&BROKEN_BODY, format!("the body broke off: {error}")))?;
        if let Ok(data) = frame.into_data()
            && !data.is_empty()
        {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

async fn feed(mut body: Body, decoder: &mut impl Write, bytes_max: usize) -> Result<(), Problem> {
    while let Some(chunk) = next_chunk(&mut body).await? {
        decoder.write_all(&chunk).map_err(|error| damaged(&error, bytes_max))?;
    }
    Ok(())
}

async fn decompress_zstd(body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
    let broken = |error: io::Error| damaged(&error, bytes_max);
    let mut decoder = zstd::stream::write::Decoder::new(Bounded::new(bytes_max)).map_err(broken)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(broken)?;
    feed(body, &mut decoder, bytes_max).await?;
    // Only this tells a body that broke off inside of a frame from a whole one.
    let sink = decoder.finish().map_err(broken)?;
    Ok(Bytes::from(sink.bytes))
}

/// Collects what a decoder writes, up to a limit.
struct Bounded {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Bounded {
    const fn new(bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), bytes_max }
    }
}

impl Write for Bounded {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + part.len() > self.bytes_max {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.bytes.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn damaged(error: &io::Error, bytes_max: usize) -> Problem {
    if error.kind() == io::ErrorKind::FileTooLarge {
        return too_large(bytes_max, None);
    }
    Problem::new(&BROKEN_BODY, format!("the body cannot be decompressed: {error}"))
        .field("Content-Encoding")
}

fn too_large(bytes_max: usize, actual: Option<u64>) -> Problem {
    let detail = match actual.filter(|actual| *actual > bytes_max as u64) {
        Some(actual) => format!("the body has {actual} bytes, allowed are {bytes_max}"),
        None => format!("the body has more than the {bytes_max} bytes that are allowed"),
    };
    let mut problem = Problem::new(&kinds::BODY_TOO_LARGE, detail);
    problem.limit = Some(bytes_max as u64);
    problem.actual = actual.filter(|actual| *actual > bytes_max as u64);
    problem
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http::{HeaderMap, HeaderValue};

    const LIMITS: BodyLimits = BodyLimits { bytes_max: 1_000, timeout: Duration::from_secs(10) };

    async fn read(pairs: &[(&'static str, &str)], body: Body) -> Result<Bytes, Problem> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        read_body(&Head::read(&headers), body, LIMITS).await
    }

    fn in_pieces(bytes: &[u8]) -> Body {
        let pieces: Vec<Result<Bytes, io::Error>> =
            bytes.chunks(7).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        Body::from_stream(stream::iter(pieces))
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[tokio::test]
    async fn bodies_are_read_whole_or_in_pieces() {
        assert_eq!(read(&[], Body::empty()).await.unwrap(), "");
        let whole = read(&[("content-length", "3")], Body::from("abc")).await;
        assert_eq!(whole.unwrap(), "abc");
        let text = b"0123456789".repeat(100);
        assert_eq!(read(&[], in_pieces(&text)).await.unwrap(), text);
    }

    #[tokio::test]
    async fn compressed_bodies_are_read() {
        let text = b"0123456789".repeat(100);
        let gzipped = gzip(&text);
        let found = read(&[("content-encoding", "gzip")], in_pieces(&gzipped)).await;
        assert_eq!(found.unwrap(), text);
        let zipped = zstd::encode_all(text.as_slice(), 1).unwrap();
        let found = read(&[("content-encoding", "zstd")], in_pieces(&zipped)).await;
        assert_eq!(found.unwrap(), text);
    }

    async fn check_refused(status: u16, pairs: &[(&'static str, &str)], body: Body) -> Problem {
        let problem = read(pairs, body).await.unwrap_err();
        assert_eq!(problem.kind.status, status, "{}", problem.detail);
        problem
    }

    #[tokio::test]
    async fn the_limit_holds_before_and_after_decompression() {
        let declared = check_refused(413, &[("content-length", "1001")], Body::empty()).await;
        assert_eq!((declared.limit, declared.actual), (Some(1_000), Some(1_001)));
        let long = vec![b'x'; 1_001];
        check_refused(413, &[], in_pieces(&long)).await;
        let bomb = gzip(&vec![0; 50_000_000]);
        check_refused(413, &[("content-encoding", "gzip")], in_pieces(&bomb)).await;
        let bomb = zstd::encode_all(vec![0; 50_000_000].as_slice(), 1).unwrap();
        check_refused(413, &[("content-encoding", "zstd")], in_pieces(&bomb)).await;
    }

    #[tokio::test]
    async fn what_is_not_compressed_as_it_says_is_refused() {
        check_refused(400, &[("content-encoding", "gzip")], in_pieces(b"not gzip at all")).await;
        check_refused(400, &[("content-encoding", "zstd")], in_pieces(b"not zstd at all")).await;
        let text = b"0123456789".repeat(10);
        let whole =
            [("gzip", gzip(&text)), ("zstd", zstd::encode_all(text.as_slice(), 1).unwrap())];
        for (encoding, whole) in whole {
            for length in 0..whole.len() {
                let cut = in_pieces(&whole[..length]);
                check_refused(400, &[("content-encoding", encoding)], cut).await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        let never = Body::from_stream(stream::pending::<Result<Bytes, io::Error>>());
        check_refused(408, &[], never).await;
    }
}
