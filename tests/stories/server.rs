//! A server of one's own: the real binary, a temporary folder, a free port, a known token.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;
use tempfile::TempDir;

use crate::engines::Cloud;

/// All scopes of the first org.
pub const TOKEN: &str = "lsk_stories_0123456789abcdef0123456789abcdef0123456789abcdef";

/// A running `longshore up` and its place.
pub struct Server {
    pub url: String,
    process: Process,
    place: Place,
}

/// A running process of the program. Dropping it kills it.
pub struct Process {
    /// Where it answers; empty where it does not.
    pub url: String,
    child: Child,
}

/// A data folder and the settings that go with it; outlives the servers that run on it.
pub struct Place {
    folder: TempDir,
    settings: Vec<(String, String)>,
    cloud: Option<Cloud>,
}

impl Place {
    /// Later settings win. Without a cloud the bucket is in the folder.
    pub fn new(settings: Vec<(String, String)>, cloud: Option<Cloud>) -> Self {
        Self { folder: TempDir::new().unwrap(), settings, cloud }
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The program on this folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
        // The settings of whoever runs the tests are not those of the story.
        let others = std::env::vars_os().map(|(name, _)| name);
        for name in others.filter(|name| name.to_string_lossy().starts_with("LONGSHORE_")) {
            command.env_remove(name);
        }
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("LONGSHORE_DATA_DIR", self.data())
            .env("LONGSHORE_BOOTSTRAP_TOKEN", TOKEN)
            .env("LONGSHORE_LISTEN", "127.0.0.1:0")
            .env("LONGSHORE_LOG__FILTER", "warn")
            // A slow machine may sign a policy later than a client of an idle one should have to wait.
            .env("LONGSHORE_INTAKE__WAIT", "20s")
            .envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs the program and takes what it printed; it must succeed.
    pub fn print(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// Waits until no object lies in staging.
    pub async fn staging_is_empty(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let staged = match &self.cloud {
                None => self.in_folder("staging/").await,
                Some(cloud) => cloud.staged().await,
            };
            if staged == 0 {
                return;
            }
            assert!(Instant::now() < deadline, "{staged} objects are left in staging");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// How many blobs lie in the bucket.
    pub async fn blobs(&self) -> usize {
        match &self.cloud {
            None => self.in_folder("blobs/").await,
            Some(cloud) => cloud.below("blobs/").await,
        }
    }

    async fn in_folder(&self, prefix: &str) -> usize {
        let index = SqliteConnectOptions::new().filename(self.data().join("bucket/index.db")).read_only(true);
        let query = "select count(*) from objects where key like $1 || '%'";
        let counted = sqlx::query_scalar(query).bind(prefix).fetch_one(&mut index.connect().await.unwrap()).await;
        let count: i64 = counted.unwrap();
        count.try_into().unwrap()
    }

    /// Where its objects are, if not in the folder.
    pub fn cloud(&self) -> &Cloud {
        self.cloud.as_ref().unwrap()
    }

    pub fn up(self) -> Server {
        let process = self.spawn(&["up"]);
        Server { url: process.url.clone(), process, place: self }
    }

    /// As [`Place::up`], with the log in a file.
    pub fn up_logging_to(self, log: File) -> Server {
        let mut command = self.command(&["up"]);
        command.stderr(log);
        let process = start(command);
        Server { url: process.url.clone(), process, place: self }
    }

    /// Starts a process that tells its address, and waits for that.
    pub fn spawn(&self, arguments: &[&str]) -> Process {
        start(self.command(arguments))
    }

    /// Starts a process that tells nothing.
    pub fn spawn_quiet(&self, arguments: &[&str]) -> Process {
        Process { url: String::new(), child: self.command(arguments).stdout(Stdio::null()).spawn().unwrap() }
    }
}

fn start(mut command: Command) -> Process {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let url = loop {
        let mut line = String::new();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "the server ended before it told its address");
        if let Some(url) = line.split_whitespace().find(|word| word.starts_with("http://")) {
            break url.trim_end_matches('/').to_owned();
        }
    };
    // Whatever it prints later must not fill the pipe.
    std::thread::spawn(move || lines.read_to_end(&mut Vec::new()));
    Process { url, child }
}

impl Process {
    /// kill -9, and the wait for its end.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the wait for its end, which must be in good order.
    fn terminate(&mut self) {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

impl Server {
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// kill -9, and what it leaves behind.
    pub fn kill(mut self) -> Place {
        self.process.kill();
        self.place
    }

    /// SIGTERM, and the wait for its end, which must be in good order.
    pub fn terminate(mut self) -> Place {
        self.process.terminate();
        self.place
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        client().request(method, format!("{}{path}", self.url)).bearer_auth(TOKEN)
    }

    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        read(self.request(Method::GET, path).send().await.unwrap()).await
    }

    pub async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        read(self.request(Method::POST, path).json(&body).send().await.unwrap()).await
    }

    /// Asks for an upload; it must be issued or done at once.
    pub async fn create(&self, body: Value) -> Value {
        let (status, answer) = self.post("/api/uploads", body).await;
        assert_eq!(status, 201, "{answer}");
        answer["uploads"][0].clone()
    }

    /// The upload when its status is final.
    pub async fn settled(&self, upload: &Value) -> Value {
        let path = format!("/api/uploads/{}", upload["id"].as_str().unwrap());
        let request = self.request(Method::GET, &path).header("Prefer", "wait=30");
        let (status, answer) = read(request.send().await.unwrap()).await;
        assert_eq!(status, 200, "{answer}");
        answer["uploads"][0].clone()
    }

    /// What `ingest --json` of a folder into this server prints.
    pub fn ingest(&self, folder: &str) -> String {
        self.place.print(&["ingest", folder, "--json", "--server", &self.url, "--token", TOKEN])
    }

    /// A file all the way through.
    pub async fn uploaded(&self, filename: &str, bytes: &[u8]) -> Value {
        let upload = self.create(json!({ "filename": filename })).await;
        assert_eq!(post_form(&upload, bytes).await, 201);
        self.settled(&upload).await
    }

    /// Name and hash of every file, in no order.
    pub async fn files(&self) -> Vec<(String, String)> {
        let (mut files, mut after) = (Vec::new(), String::new());
        loop {
            let (status, page) = self.get(&format!("/api/files?perPage=100{after}")).await;
            assert_eq!(status, 200, "{page}");
            let text = |entry: &Value, field: &str| entry[field].as_str().unwrap().to_owned();
            let entries = page["files"].as_array().unwrap();
            files.extend(entries.iter().map(|entry| (text(entry, "filename"), text(entry, "hash"))));
            let Some(next) = page["next"].as_str() else { return files };
            after = format!("&after={next}");
        }
    }

    /// The report once it counts so many files.
    pub async fn report_of(&self, files: i64) -> Value {
        for _ in 0..600 {
            let (status, answer) = self.get("/api/files/report").await;
            assert_eq!(status, 200, "{answer}");
            if answer["files"][0]["count"] == files {
                return answer["files"][0].clone();
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the report never counted {files} files: {:?}", self.get("/api/files/report").await);
    }
}

pub fn client() -> Client {
    static PROVIDER: std::sync::Once = std::sync::Once::new();
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

pub async fn read(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status} is not JSON: {text}")))
}

/// Posts the form that a policy allows, as a browser would.
pub async fn post_form(upload: &Value, bytes: &[u8]) -> StatusCode {
    post_form_with(upload, bytes, |_| {}).await
}

/// As [`post_form`], with the fields changed first.
pub async fn post_form_with(
    upload: &Value,
    bytes: &[u8],
    change: impl FnOnce(&mut Vec<(String, String)>),
) -> StatusCode {
    let given = upload["upload"]["fields"].as_object().unwrap_or_else(|| panic!("no policy in {upload}"));
    let mut fields: Vec<_> =
        given.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
    change(&mut fields);
    let form = fields.into_iter().fold(reqwest::multipart::Form::new(), |form, (name, value)| form.text(name, value));
    let file = reqwest::multipart::Part::bytes(bytes.to_vec()).file_name("file");
    let url = upload["upload"]["url"].as_str().unwrap();
    client().post(url).multipart(form.part("file", file)).send().await.unwrap().status()
}
