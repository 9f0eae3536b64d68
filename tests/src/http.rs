//! HTTP/1.1, small: enough for admin pages, metrics, load, and the services of the demos.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(10);
/// Most lines of a head, and most bytes of one.
const MAX_LINES: usize = 100;
const MAX_LINE: u64 = 64 * 1024;
/// Most bytes of a body.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// Names in lower case, in the order they came.
pub type Headers = Vec<(String, String)>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    /// With its query.
    pub path: String,
    pub headers: Headers,
    pub body: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub headers: Headers,
    pub body: String,
    /// The server ends the connection after this answer.
    pub closes: bool,
}

/// One request on a connection of its own.
///
/// # Errors
/// When the server cannot be reached or does not speak HTTP.
pub fn get(server: SocketAddr, path: &str) -> io::Result<Response> {
    Connection::open(server)?.get(path)
}

/// The same with `headers`, of which `host` may be one.
///
/// # Errors
/// When the server cannot be reached or does not speak HTTP.
pub fn get_with(server: SocketAddr, path: &str, headers: &[(&str, &str)]) -> io::Result<Response> {
    Connection::open(server)?.send(&Request::get(path, headers))
}

/// A TCP connection to `server` on which nothing waits for ever.
///
/// # Errors
/// When nobody listens.
pub fn dial(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&server, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Request {
    pub fn get(path: &str, headers: &[(&str, &str)]) -> Self {
        let headers = headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), (*value).to_owned()));
        Self {
            method: "GET".to_owned(),
            path: path.to_owned(),
            headers: headers.collect(),
            body: String::new(),
        }
    }

    /// The next request, or `None` when whoever is at the other end has no more.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is not HTTP.
    pub fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        if from.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let (start, headers) = head(from)?;
        let mut words = start.split(' ').map(str::to_owned);
        let (Some(method), Some(path)) = (words.next(), words.next()) else { return Err(malformed(&start)) };
        let body = body(from, &headers)?;
        Ok(Some(Self { method, path, headers, body }))
    }

    /// The value of the header `name`, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        if self.header("host").is_none() {
            text.push_str("host: localhost\r\n");
        }
        let length = (!self.body.is_empty()).then_some(self.body.len());
        to.write_all(message(text, &self.headers, length, &self.body).as_bytes())
    }
}

impl Response {
    /// `body` as text.
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        let headers = vec![("content-type".to_owned(), "text/plain".to_owned())];
        Self { status, headers, body: body.into(), closes: false }
    }

    /// The value of the header `name`, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// Each value of the header `name`, which is in lower case.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(other, _)| other == name);
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// # Errors
    /// When the connection breaks.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let start = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        to.write_all(message(start, &self.headers, Some(self.body.len()), &self.body).as_bytes())?;
        to.flush()
    }
}

/// A connection that is kept between requests.
#[derive(Debug)]
pub struct Connection<S: Read = TcpStream>(BufReader<S>);

impl Connection {
    /// # Errors
    /// When nobody listens.
    pub fn open(server: SocketAddr) -> io::Result<Self> {
        dial(server).map(Self::over)
    }
}

impl<S: Read + Write> Connection<S> {
    /// Speaks HTTP over `stream`.
    pub fn over(stream: S) -> Self {
        Self(BufReader::new(stream))
    }

    /// # Errors
    /// When the connection breaks, or what comes back is not HTTP.
    pub fn get(&mut self, path: &str) -> io::Result<Response> {
        self.get_with(path, &[])
    }

    /// # Errors
    /// When the connection breaks, or what comes back is not HTTP.
    pub fn get_with(&mut self, path: &str, headers: &[(&str, &str)]) -> io::Result<Response> {
        self.send(&Request::get(path, headers))
    }

    /// # Errors
    /// When the connection breaks, or what comes back is not HTTP.
    pub fn send(&mut self, request: &Request) -> io::Result<Response> {
        request.write(self.0.get_mut())?;
        let (start, headers) = head(&mut self.0)?;
        let status = start.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| malformed(&start))?;
        let closes = header(&headers, "connection") == Some("close");
        let body = body(&mut self.0, &headers)?;
        Ok(Response { status, headers, body, closes })
    }
}

/// The first line, and the headers behind it.
fn head(from: &mut impl BufRead) -> io::Result<(String, Headers)> {
    let start = line(from)?;
    let mut headers = Headers::new();
    loop {
        let line = line(from)?;
        if line.is_empty() {
            return Ok((start, headers));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| malformed(&line))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        if headers.len() > MAX_LINES {
            return Err(malformed("a head of too many lines"));
        }
    }
}

fn body(from: &mut impl BufRead, headers: &[(String, String)]) -> io::Result<String> {
    let bytes = if header(headers, "transfer-encoding") == Some("chunked") {
        chunks(from)?
    } else {
        let length = header(headers, "content-length").unwrap_or("0");
        exactly(from, length.parse().map_err(|_| malformed(length))?)?
    };
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn chunks(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = line(from)?;
        let size = usize::from_str_radix(&size, 16).map_err(|_| malformed(&size))?;
        body.extend(exactly(from, size)?);
        line(from)?;
        if size == 0 {
            return Ok(body);
        }
    }
}

fn exactly(from: &mut impl BufRead, length: usize) -> io::Result<Vec<u8>> {
    if length > MAX_BODY {
        return Err(malformed("a body that is too long"));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok(body)
}

/// The next line without its end.
fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if from.take(MAX_LINE).read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    line.truncate(line.trim_end().len());
    Ok(line)
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// `start`, the headers without those that frame a body, the length of `body` and `body`.
fn message(start: String, headers: &[(String, String)], length: Option<usize>, body: &str) -> String {
    let mut text = start;
    for (name, value) in headers {
        if !["content-length", "transfer-encoding", "connection"].contains(&name.as_str()) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    if let Some(length) = length {
        text.push_str(&format!("content-length: {length}\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        403 => "Forbidden",
        404 => "Not Found",
        502 => "Bad Gateway",
        _ => "Other",
    }
}

fn malformed(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP: {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let mut request = Request::get("/a?b=c", &[("Host", "web"), ("X-Secret", "s: t")]);
        request.body = "body".to_owned();
        let mut bytes = Vec::new();
        request.write(&mut bytes).unwrap();
        let read = Request::read(&mut bytes.as_slice()).unwrap().unwrap();
        assert_eq!(read.header("x-secret"), Some("s: t"));
        assert_eq!((read.method, read.path, read.body), (request.method, request.path, request.body));
    }

    #[test]
    fn a_body_in_pieces_is_put_together() {
        let mut bytes =
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n".as_bytes();
        assert_eq!(Request::read(&mut bytes).unwrap().unwrap().body, "abcd");
        assert_eq!(Request::read(&mut bytes).unwrap(), None);
    }

    #[test]
    fn what_has_no_end_is_refused() {
        let endless = format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(MAX_LINES + 1));
        Request::read(&mut endless.as_bytes()).unwrap_err();
        let long = format!("GET / HTTP/1.1\r\ncontent-length: {}\r\n\r\n", MAX_BODY + 1);
        Request::read(&mut long.as_bytes()).unwrap_err();
    }
}
