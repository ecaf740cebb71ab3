//! A hub of this machine: the file endpoints of a Hugging Face hub, and what a client asked it for.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

/// The commit of every repository here.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// How a hub misbehaves, or guards what it has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Manners {
    /// The token without which it refuses.
    pub(crate) token: Option<String>,
    /// Status for whoever has the token as well: conditions not accepted.
    pub(crate) gated: bool,
    /// Send large files from another address, as hubs do.
    pub(crate) redirect: bool,
    /// Forget the headers that clients rely on.
    pub(crate) headless: bool,
    /// Break the first connection for this file in its middle.
    pub(crate) break_once: Option<String>,
    /// Listed, and not there.
    pub(crate) phantom: Option<String>,
}

/// A hub with one repository, `org/name`, with the branches `main` and `refs/pr/1`.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) endpoint: String,
    requests: Arc<Mutex<Vec<String>>>,
}

struct State {
    files: BTreeMap<String, Vec<u8>>,
    manners: Manners,
    broken: Mutex<bool>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) fn start(files: &[(&str, Vec<u8>)], manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let state = Arc::new(State {
            files: files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())).collect(),
            manners,
            broken: Mutex::new(false),
            requests: Arc::clone(&requests),
        });
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&state);
                // A client that hangs up early is its own business.
                std::thread::spawn(move || state.serve(&stream));
            }
        });
        Self { endpoint, requests }
    }

    /// The files that were downloaded, sorted, each once.
    pub(crate) fn downloads(&self) -> Vec<String> {
        let prefix = format!("GET /org/name/resolve/{COMMIT}/");
        let mut names: Vec<String> =
            self.requests().iter().filter_map(|line| Some(line.strip_prefix(&prefix)?.to_owned())).collect();
        names.sort();
        names.dedup();
        names
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl State {
    fn serve(&self, stream: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let path = line.split(' ').nth(1)?.to_owned();
            let mut headers = BTreeMap::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).ok()?;
                let Some((name, value)) = line.trim_end().split_once(": ") else { break };
                headers.insert(name.to_ascii_lowercase(), value.to_owned());
            }
            self.requests.lock().unwrap().push(format!("GET {path}"));
            self.answer(stream, &path, &headers)?;
        }
    }

    fn answer(&self, stream: &TcpStream, path: &str, headers: &BTreeMap<String, String>) -> Option<()> {
        if let Some(name) = path.strip_prefix("/elsewhere/") {
            return self.send_file(stream, name, headers, true);
        }
        let expected = self.manners.token.as_ref().map(|token| format!("Bearer {token}"));
        if expected.is_some() && headers.get("authorization") != expected.as_ref() {
            return send(stream, "401 Unauthorized", &[], b"{\"error\":\"Invalid username or password.\"}");
        }
        if self.manners.gated {
            return send(stream, "403 Forbidden", &[], b"{\"error\":\"gated\"}");
        }
        if let Some(revision) = path.strip_prefix("/api/models/org/name") {
            let revision = revision.strip_prefix("/revision/").unwrap_or("main");
            if !["main", "refs%2Fpr%2F1", COMMIT].contains(&revision) {
                return send(stream, "404 Not Found", &[], b"{\"error\":\"Invalid rev id\"}");
            }
            let names = self.files.keys().chain(self.manners.phantom.iter());
            let siblings: Vec<_> = names.map(|name| serde_json::json!({"rfilename": name})).collect();
            let info = serde_json::json!({"id": "org/name", "sha": COMMIT, "siblings": siblings});
            return send(stream, "200 OK", &["Content-Type: application/json"], info.to_string().as_bytes());
        }
        match path.strip_prefix(&format!("/org/name/resolve/{COMMIT}/")) {
            Some(name) => self.send_file(stream, name, headers, false),
            None => send(stream, "404 Not Found", &[], b"{}"),
        }
    }

    fn send_file(
        &self,
        stream: &TcpStream,
        name: &str,
        headers: &BTreeMap<String, String>,
        elsewhere: bool,
    ) -> Option<()> {
        let Some(bytes) = self.files.get(name) else {
            return send(stream, "404 Not Found", &["X-Error-Code: EntryNotFound"], b"");
        };
        // What the client keys its cache with: any name for these bytes.
        let sum = bytes
            .iter()
            .fold(name.len() as u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        let etag = format!("ETag: \"{sum:016x}\"");
        let linked = format!("X-Linked-Etag: \"{sum:016x}\"");
        let commit = format!("X-Repo-Commit: {COMMIT}");
        if self.manners.redirect && !elsewhere && name.ends_with(".safetensors") {
            let host = headers.get("host")?;
            let location = format!("Location: http://{host}/elsewhere/{name}");
            return send(stream, "302 Found", &[&location, &linked, &commit], b"");
        }
        let range = headers.get("range")?.strip_prefix("bytes=")?;
        let (start, end) = range.split_once('-')?;
        let start: usize = start.parse().ok()?;
        let end = end.parse().map_or(bytes.len(), |end: usize| end + 1).min(bytes.len());
        if start >= bytes.len() {
            return send(stream, "416 Range Not Satisfiable", &[], b"");
        }
        let content_range = format!("Content-Range: bytes {start}-{}/{}", end - 1, bytes.len());
        if self.manners.headless {
            return send(stream, "206 Partial Content", &[], &bytes[start..end]);
        }
        let all = [content_range.as_str(), &etag, &commit, "Accept-Ranges: bytes"];
        let mut broken = self.broken.lock().unwrap();
        if self.manners.break_once.as_deref() == Some(name) && end - start > 1 && !*broken {
            *broken = true;
            let mut stream = stream;
            let head = head("206 Partial Content", &all, end - start);
            stream.write_all(head.as_bytes()).ok()?;
            stream.write_all(&bytes[start..start.midpoint(end)]).ok()?;
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return None;
        }
        send(stream, "206 Partial Content", &all, &bytes[start..end])
    }
}

fn head(status: &str, headers: &[&str], length: usize) -> String {
    let mut head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n");
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    head + "\r\n"
}

fn send(mut stream: &TcpStream, status: &str, headers: &[&str], body: &[u8]) -> Option<()> {
    stream.write_all(head(status, headers, body.len()).as_bytes()).ok()?;
    stream.write_all(body).ok()
}
