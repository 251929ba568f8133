//! The HTTP client of the commands: one connection for each request, answers read whole or as a
//! stream of frames. Knows nothing of timers.

use super::failure::Failure;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::net::TcpStream;

/// More than any answer that is read whole.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// What needs no escape in a path segment or a query value.
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

/// A server's address.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    authority: String,
}

/// A success, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// The `Stormwheel-Cursor` header.
    pub(crate) cursor: Option<String>,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Result<serde_json::Value, Failure> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Failure::Failed(format!("the answer is no JSON: {error}")))
    }
}

/// A body that is read as it comes.
#[derive(Debug)]
pub(crate) struct Stream {
    server: String,
    body: Incoming,
}

impl Stream {
    /// The next piece, of any length; none at the end.
    pub(crate) async fn frame(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Some(Err(error)) => return Err(broken(&self.server, &error)),
            }
        }
    }
}

impl Client {
    /// From `http://host:port`, or `host:port`.
    pub(crate) fn new(server: &str) -> Result<Self, Failure> {
        let rest = server.strip_prefix("http://").unwrap_or(server).trim_end_matches('/');
        if server.starts_with("https://") {
            return Err(Failure::Usage("--server speaks plain http:// only".to_owned()));
        }
        if rest.is_empty() || rest.contains(['/', ' ', '?']) {
            return Err(Failure::Usage(format!(
                "--server must look like http://127.0.0.1:7400, not {server}"
            )));
        }
        let has_port = rest.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port { rest.to_owned() } else { format!("{rest}:80") };
        Ok(Self { authority })
    }

    /// `host:port`.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Sends a request without a body, or with one of JSON, and reads the answer whole.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Answer, Failure> {
        let response = self.request(method, path, body).await?;
        let status = response.status();
        let cursor = response.headers().get("stormwheel-cursor");
        let cursor = cursor.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = self.read_whole(response.into_body()).await?;
        if status.is_success() {
            return Ok(Answer { status, cursor, body });
        }
        Err(Failure::refused(status.as_u16(), &body))
    }

    /// Opens a stream; its head has come when this returns.
    pub(crate) async fn open(&self, path: &str) -> Result<Stream, Failure> {
        let response = self.request(Method::GET, path, None).await?;
        let status = response.status();
        let body = response.into_body();
        if status.is_success() {
            return Ok(Stream { server: self.authority.clone(), body });
        }
        Err(Failure::refused(status.as_u16(), &self.read_whole(body).await?))
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Response<Incoming>, Failure> {
        let stream = TcpStream::connect(&self.authority).await.map_err(|source| {
            Failure::Unreachable { server: format!("http://{}", self.authority), source }
        })?;
        let broken = |error: hyper::Error| broken(&self.authority, &error);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(async move {
            // Whoever waits for the answer learns of the error there.
            drop(connection.await);
        });
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.authority)
            .header(ACCEPT, "application/json, application/x-ndjson");
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|error| Failure::Usage(format!("no request can be made of this: {error}")))?;
        sender.send_request(request).await.map_err(broken)
    }

    async fn read_whole(&self, body: Incoming) -> Result<Bytes, Failure> {
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| Failure::Broken {
            server: self.authority.clone(),
            what: error.to_string(),
        })?;
        Ok(body.to_bytes())
    }
}

fn broken(server: &str, error: &hyper::Error) -> Failure {
    Failure::Broken { server: server.to_owned(), what: error.to_string() }
}

/// Escapes one segment of a path, or one value of a query.
pub(crate) fn escape(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// Builds `?a=b&c=d` of the parameters that have a value.
pub(crate) fn query<'a>(parameters: impl IntoIterator<Item = (&'a str, Option<String>)>) -> String {
    let mut text = String::new();
    for (name, value) in parameters {
        let Some(value) = value else { continue };
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(name);
        text.push('=');
        text.push_str(&escape(&value));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (server, expected) in [
            ("http://127.0.0.1:7400", Some("127.0.0.1:7400")),
            ("127.0.0.1:7400/", Some("127.0.0.1:7400")),
            ("http://timers", Some("timers:80")),
            ("http://[::1]:7400", Some("[::1]:7400")),
            ("https://timers", None),
            ("http://timers/v1", None),
            ("", None),
        ] {
            let client = Client::new(server);
            assert_eq!(client.as_ref().ok().map(Client::authority), expected, "{server}");
        }
    }

    #[test]
    fn what_goes_into_a_path_is_escaped() {
        assert_eq!(escape("a/b c?d"), "a%2Fb%20c%3Fd");
        assert_eq!(escape("~YQ"), "~YQ");
        let parameters = [("a", Some("1&2".to_owned())), ("b", None), ("c", Some("ü".to_owned()))];
        assert_eq!(query(parameters), "?a=1%262&c=%C3%BC");
        assert_eq!(query([]), "");
    }

    #[tokio::test]
    async fn nobody_listening_says_how_to_start_a_server() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let client = Client::new(&address).unwrap();
        let error = client.send(Method::GET, "/", None).await.unwrap_err().to_string();
        assert!(error.contains("stormwheel serve") && error.contains(&address), "{error}");
    }
}
