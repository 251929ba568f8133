//! One HTTP/1.1 connection with one request in flight: as little code between the schedule and
//! the socket as there can be, since the generator shares the processor with what it measures.
//! Reads answers with a length and chunked ones; anything else is an error, not a guess.

use std::io::{Error, ErrorKind, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// More than any answer to a batch takes.
const ANSWER_BYTES_MAX: usize = 64 << 20;
const HEADERS_MAX: usize = 48;
/// Bodies up to this length travel in one piece with their head.
const JOINED_BYTES_MAX: usize = 4096;

/// A connection that stays open from one request to the next.
#[derive(Debug)]
pub(crate) struct Connection {
    authority: String,
    stream: TcpStream,
    received: Vec<u8>,
    body: Vec<u8>,
}

/// What the server said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
}

/// What a head tells about its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
}

#[derive(Debug, Clone, Copy)]
struct Head {
    status: u16,
    bytes: usize,
    framing: Framing,
}

impl Connection {
    /// Connects to `host:port`.
    pub(crate) async fn open(authority: &str) -> Result<Self> {
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            authority: authority.to_owned(),
            stream,
            received: Vec::with_capacity(16 << 10),
            body: Vec::new(),
        })
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn exchange(&mut self, head: &mut Vec<u8>, body: &[u8]) -> Result<Answer<'_>> {
        self.reopen_if_closed().await?;
        if body.len() <= JOINED_BYTES_MAX {
            head.extend_from_slice(body);
            self.stream.write_all(head).await?;
        } else {
            self.stream.write_all(head).await?;
            self.stream.write_all(body).await?;
        }
        self.received.clear();
        let head = loop {
            self.receive().await?;
            if let Some(head) = parse_head(&self.received)? {
                break head;
            }
        };
        match head.framing {
            Framing::Length(length) => {
                let end = head.bytes + length;
                while self.received.len() < end {
                    self.receive().await?;
                }
                Ok(Answer { status: head.status, body: &self.received[head.bytes..end] })
            }
            Framing::Chunked => {
                self.read_chunks(head.bytes).await?;
                Ok(Answer { status: head.status, body: &self.body })
            }
        }
    }

    /// A server may close a connection on which nothing was asked for a while. That is its right and
    /// no lost request, as long as it is seen before the next one is sent.
    async fn reopen_if_closed(&mut self) -> Result<()> {
        match self.stream.try_read(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // Closed, broken, or saying something unasked: nothing to send a request into.
            _ => self.stream = Self::open(&self.authority).await?.stream,
        }
        Ok(())
    }

    async fn receive(&mut self) -> Result<()> {
        if self.received.len() > ANSWER_BYTES_MAX {
            return Err(invalid("the answer is longer than 64 MiB"));
        }
        if self.stream.read_buf(&mut self.received).await? == 0 {
            return Err(Error::new(ErrorKind::UnexpectedEof, "the server closed the connection"));
        }
        Ok(())
    }

    async fn read_chunks(&mut self, mut at: usize) -> Result<()> {
        self.body.clear();
        loop {
            let size = loop {
                match httparse::parse_chunk_size(&self.received[at..]) {
                    Ok(httparse::Status::Complete((line_bytes, size))) => {
                        at += line_bytes;
                        break size as usize;
                    }
                    Ok(httparse::Status::Partial) => self.receive().await?,
                    Err(_) => return Err(invalid("a chunk of the answer has no valid size")),
                }
            };
            if size > ANSWER_BYTES_MAX {
                return Err(invalid("a chunk of the answer is longer than 64 MiB"));
            }
            while self.received.len() < at + size + 2 {
                self.receive().await?;
            }
            self.body.extend_from_slice(&self.received[at..at + size]);
            at += size + 2;
            if size == 0 {
                return Ok(());
            }
        }
    }
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

fn parse_head(received: &[u8]) -> Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let bytes = match response.parse(received) {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(invalid(&format!("the answer is not HTTP/1.1: {error}"))),
    };
    let status = response.code.ok_or_else(|| invalid("the answer has no status"))?;
    let mut framing = None;
    for header in response.headers {
        if header.name.eq_ignore_ascii_case("content-length") {
            let length = std::str::from_utf8(header.value).ok().and_then(|text| text.parse().ok());
            let length: usize = length.ok_or_else(|| invalid("the content length is no number"))?;
            if length > ANSWER_BYTES_MAX {
                return Err(invalid("the answer is longer than 64 MiB"));
            }
            framing = Some(Framing::Length(length));
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            framing = Some(Framing::Chunked);
        }
    }
    if framing.is_none() && matches!(status, 204 | 304) {
        framing = Some(Framing::Length(0));
    }
    let framing = framing.ok_or_else(|| invalid("the answer has neither length nor chunks"))?;
    Ok(Some(Head { status, bytes, framing }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Exchanges one request with a peer that answers these pieces, one write each.
    async fn check(
        pieces: &'static [&'static str],
        expected: std::result::Result<(u16, &str), &str>,
    ) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let peer = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 8];
            stream.read_exact(&mut request).await.unwrap();
            for piece in pieces {
                stream.write_all(piece.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
                tokio::task::yield_now().await;
            }
            request
        });
        let mut connection = Connection::open(&authority).await.unwrap();
        let answer = connection.exchange(&mut b"HEAD".to_vec(), b"BODY").await;
        match expected {
            Ok((status, body)) => {
                assert_eq!(answer.unwrap(), Answer { status, body: body.as_bytes() });
            }
            Err(part) => {
                let error = answer.unwrap_err().to_string();
                assert!(error.contains(part), "{error}");
            }
        }
        assert_eq!(&peer.await.unwrap(), b"HEADBODY");
    }

    #[tokio::test]
    async fn reads_an_answer_with_a_length_in_pieces() {
        check(&["HTTP/1.1 200 OK\r\nContent-", "Length: 5\r\n\r\nhe", "llo"], Ok((200, "hello")))
            .await;
    }

    #[tokio::test]
    async fn reads_chunks() {
        let pieces = &[
            "HTTP/1.1 201 X\r\nTransfer-Encoding: chunked\r\n\r\n3\r",
            "\nabc\r\n2\r\nde\r\n0\r\n",
            "\r\n",
        ];
        check(pieces, Ok((201, "abcde"))).await;
    }

    #[tokio::test]
    async fn opens_again_what_was_closed_while_nothing_was_asked() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let peer = tokio::spawn(async move {
            drop(listener.accept().await.unwrap());
            let (mut stream, _) = listener.accept().await.unwrap();
            for _ in 0..2 {
                stream.read_exact(&mut [0; 4]).await.unwrap();
                stream.write_all(b"HTTP/1.1 204 X\r\n\r\n").await.unwrap();
            }
        });
        let mut connection = Connection::open(&authority).await.unwrap();
        connection.stream.readable().await.unwrap();
        // The second request shows that one that is open is kept: nobody accepts a third.
        for _ in 0..2 {
            let answer = connection.exchange(&mut b"HEAD".to_vec(), b"").await.unwrap();
            assert_eq!(answer.status, 204);
        }
        peer.await.unwrap();
    }

    #[tokio::test]
    async fn says_what_is_wrong() {
        check(&["HTTP/1.1 200 OK\r\n\r\n"], Err("neither length nor chunks")).await;
        check(&["hello, world\r\n\r\n"], Err("not HTTP/1.1")).await;
        check(&["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhe"], Err("closed the connection"))
            .await;
    }
}
