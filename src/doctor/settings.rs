//! The configuration: what it names, who may read the data folder, and whether clients reach the service by its public URL.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use longshore_jobs::job::with_causes;
use longshore_jobs::model::Timestamp;
use url::{Host, Url};

use super::{Outcome, http_client};
use crate::config::{BucketEngine, Config, InboxEngine};

const ANSWER: Duration = Duration::from_secs(5);

/// When this was written: no right clock is behind it.
const WRITTEN: Timestamp = Timestamp::from_millis(1_767_225_600_000);

/// What the URLs name, and whether a fleet can be made of it.
pub(super) fn engines(config: &Config) -> Outcome {
    if Timestamp::system_now() < WRITTEN {
        let now = Timestamp::system_now();
        return Outcome::failed(
            format!("the clock of this machine says {now}"),
            "set it by NTP, for example `timedatectl set-ntp true`: policies and due times are told by it",
        );
    }
    let inbox = match &config.inbox {
        InboxEngine::Local => "local:".to_owned(),
        InboxEngine::Sqs(queue) => queue.to_string(),
        InboxEngine::Webhook => "a webhook".to_owned(),
        InboxEngine::None => "none".to_owned(),
    };
    let seen = format!("ledger {}, queue {}, bucket {}, inbox {inbox}", config.database, config.queue, config.bucket);
    if config.database.file().is_none() && config.bucket.folder().is_some() {
        return Outcome::warning(
            format!("{seen}: a second process on this ledger cannot reach the bucket, a folder of this machine's"),
            "set bucket_url to s3://NAME before a second process is started",
        );
    }
    Outcome::ok(seen)
}

/// Whether the data folder is ours alone and can be written to.
pub(super) async fn data_folder(config: Config) -> Outcome {
    let path = config.data_dir.clone();
    if !config.is_local() {
        return Outcome::skipped("everything is kept on servers");
    }
    let looked = tokio::task::spawn_blocking(move || {
        let metadata = fs::metadata(&path);
        let written = metadata.is_ok().then(|| tempfile::NamedTempFile::new_in(&path).map(drop));
        judge_folder(&path, metadata, written, rustix::process::geteuid().as_raw())
    });
    looked.await.unwrap_or_else(|error| Outcome::failed(error.to_string(), "report this as a bug of longshore"))
}

fn judge_folder(path: &Path, metadata: io::Result<Metadata>, written: Option<io::Result<()>>, us: u32) -> Outcome {
    let shown = path.display();
    let metadata = match metadata {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Outcome::skipped(format!("{shown} is not there yet: the first start makes it"));
        }
        Err(error) => {
            return Outcome::failed(format!("{shown} cannot be looked at: {error}"), "check data_dir and its parents");
        }
    };
    if let Some(Err(error)) = written {
        return Outcome::failed(
            format!("{shown} cannot be written to: {error}"),
            mend_unwritable(path, &error, &metadata),
        );
    }
    let mode = metadata.mode() & 0o777;
    if metadata.uid() != us {
        return Outcome::warning(
            format!("{shown} belongs to user {}, and this is user {us}", metadata.uid()),
            format!(
                "run this as the service's user, or `chown -R USER {shown}`: what is made here now is not the service's"
            ),
        );
    }
    if mode & 0o077 != 0 {
        return Outcome::warning(
            format!("{shown} has mode {mode:04o}: others on this machine can read credentials and files"),
            format!("chmod 0700 {shown}"),
        );
    }
    Outcome::ok(format!("{shown} is ours alone (mode {mode:04o}) and can be written to"))
}

fn mend_unwritable(path: &Path, error: &io::Error, metadata: &Metadata) -> String {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            format!(
                "the file system of {} is read-only: `dmesg` says why, `mount -o remount,rw` undoes it; \
                     under systemd see ReadWritePaths",
                path.display()
            )
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space: runbook, *A full disk*".to_owned()
        }
        _ => format!("run this as user {}, or `chown -R USER {1}; chmod 0700 {1}`", metadata.uid(), path.display()),
    }
}

/// Whether a folder that is there belongs to the user of this process.
pub(super) fn is_ours(path: &Path) -> bool {
    fs::metadata(path).map_or(true, |metadata| metadata.uid() == rustix::process::geteuid().as_raw())
}

/// The origin of our pages, as a browser names it.
pub(super) fn origin(config: &Config, serving: Option<&str>) -> String {
    let url = address(config, serving);
    Url::parse(&url).map_or(url, |url| url.origin().ascii_serialization())
}

/// Where clients are sent: as it is set, else by whoever serves here.
fn address(config: &Config, serving: Option<&str>) -> String {
    match (&config.public_url, serving) {
        (None, Some(serving)) => serving.to_owned(),
        _ => config.public_url(config.listen),
    }
}

/// Whether the service answers where clients are sent.
pub(super) async fn public_url(config: Config, serving: Option<String>) -> Outcome {
    if config.database.file().is_some() && serving.is_none() {
        return Outcome::skipped("nobody serves the data folder now; run this again beside a running service");
    }
    let url = address(&config, serving.as_deref());
    let Ok(asked) = Url::parse(&format!("{}/readyz", url.trim_end_matches('/'))) else {
        return Outcome::failed(format!("{url} is no URL"), "set public_url");
    };
    let reach = reach(&asked).await;
    let is_chosen = config.public_url.is_some();
    if !is_chosen && config.listen.ip().is_unspecified() {
        return Outcome::warning(
            format!("it listens on every address, but the URLs that it hands out lead to this machine alone ({url})"),
            "set public_url, for example --public-url https://uploads.example.com",
        );
    }
    judge_reach(&url, is_chosen, reach)
}

/// What was answered where the service should be.
#[derive(Debug)]
enum Reach {
    /// This service, and the checks of its own that fail.
    Ours(Vec<String>),
    /// Something else, with its status.
    Other(u16),
    Nobody(String),
}

async fn reach(url: &Url) -> Reach {
    let client = match http_client(url, ANSWER) {
        Ok(client) => client,
        Err(error) => return Reach::Nobody(with_causes(&error)),
    };
    let answer = match client.get(url.clone()).send().await {
        Ok(answer) => answer,
        Err(error) => return Reach::Nobody(with_causes(&error.without_url())),
    };
    let status = answer.status().as_u16();
    let told: serde_json::Value = answer.json().await.unwrap_or_default();
    match told["checks"].as_object().filter(|checks| checks.contains_key("ledger")) {
        Some(checks) => {
            Reach::Ours(checks.iter().filter(|(_, how)| *how != "ok").map(|(name, _)| name.clone()).collect())
        }
        None => Reach::Other(status),
    }
}

fn judge_reach(url: &str, is_chosen: bool, reach: Reach) -> Outcome {
    match reach {
        Reach::Ours(failing) if failing.is_empty() => {
            Outcome::ok(format!("{url} answers as this service, and is ready"))
        }
        Reach::Ours(failing) => {
            let detail = format!("{url} answers, and says itself what is not well: {}", failing.join(", "));
            let mend = "see the checks below, and the log of the service: lines with `not ready` say why";
            // Without the ledger it is down, else degraded.
            if failing.iter().any(|name| name == "ledger") {
                Outcome::failed(detail, mend)
            } else {
                Outcome::warning(detail, mend)
            }
        }
        Reach::Other(status) => Outcome::failed(
            format!("{url} answers with {status}, and not as this service"),
            if is_chosen {
                "let the proxy there pass everything on to `listen`, or set public_url to where it does"
            } else {
                "another program has that address: set listen, or public_url"
            },
        ),
        Reach::Nobody(why) => Outcome::failed(
            format!("nobody answers at {url}: {why}"),
            if is_chosen {
                "start the service (`longshore up`); see that name, proxy and firewall of public_url lead to `listen`"
            } else {
                "start the service (`longshore up`, or `longshore intake` in a fleet)"
            },
        ),
    }
}

/// Whether http and https fit together.
pub(super) fn scheme(config: &Config) -> Outcome {
    let form = match &config.bucket {
        BucketEngine::Folder(_) => None,
        BucketEngine::S3(_) => config.s3.public_endpoint.as_ref().or(config.s3.endpoint.as_ref()),
    };
    judge_scheme(config.public_url.as_ref(), form)
}

fn judge_scheme(public: Option<&Url>, form: Option<&Url>) -> Outcome {
    let Some(public) = public else { return Outcome::skipped("no public_url is set: only this machine is served") };
    if public.scheme() == "http" {
        if is_here(public) {
            return Outcome::ok("plain HTTP, on this machine alone");
        }
        return Outcome::warning(
            format!("{public} is plain HTTP: tokens and files travel where anybody on the way can read them"),
            "put a proxy with TLS before it and set public_url to https://…",
        );
    }
    match form {
        Some(form) if form.scheme() == "http" && !is_here(form) => Outcome::failed(
            format!("the page is on https, and forms go to {form}: browsers refuse to post from the one to the other"),
            "give the S3 server TLS, and set s3.public_endpoint to its https:// address",
        ),
        _ => Outcome::ok("pages and forms are on https"),
    }
}

fn is_here(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::finding::Status;
    use super::*;

    fn status(outcome: Outcome) -> Status {
        outcome.of("x").status()
    }

    #[test]
    fn a_data_folder_is_ours_alone_and_can_be_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let us = rustix::process::geteuid().as_raw();
        let judge = |mode: u32, written: io::Result<()>, us: u32| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            status(judge_folder(path, fs::metadata(path), Some(written), us))
        };

        assert_eq!(judge(0o700, Ok(()), us), Status::Ok);
        assert_eq!(judge(0o755, Ok(()), us), Status::Warning);
        assert_eq!(judge(0o700, Ok(()), us + 1), Status::Warning);
        assert_eq!(judge(0o700, Err(io::ErrorKind::ReadOnlyFilesystem.into()), us), Status::Failed);
        let missing = path.join("none");
        assert_eq!(status(judge_folder(&missing, fs::metadata(&missing), None, us)), Status::Skipped);
    }

    /// Once CORS was asked for the origin of `listen`, while the service ran on another port.
    #[test]
    fn pages_come_from_where_clients_are_sent() {
        let configured = Config::load(crate::config::Layered::default()).unwrap();
        let origin_of = |public: Option<&str>, serving| {
            let config = Config { public_url: public.map(|url| url.parse().unwrap()), ..configured.clone() };
            origin(&config, serving)
        };
        assert_eq!(origin_of(None, None), "http://127.0.0.1:8080");
        assert_eq!(origin_of(None, Some("http://127.0.0.1:39211")), "http://127.0.0.1:39211");
        let public = Some("https://uploads.example.com/");
        assert_eq!(origin_of(public, Some("http://127.0.0.1:39211")), "https://uploads.example.com");
    }

    #[test]
    fn only_an_answer_of_this_service_will_do() {
        let judge = |reach| status(judge_reach("https://x", true, reach));
        assert_eq!(judge(Reach::Ours(vec![])), Status::Ok);
        assert_eq!(judge(Reach::Ours(vec!["inbox".to_owned()])), Status::Warning);
        assert_eq!(judge(Reach::Ours(vec!["inbox".to_owned(), "ledger".to_owned()])), Status::Failed);
        assert_eq!(judge(Reach::Other(200)), Status::Failed);
        assert_eq!(judge(Reach::Nobody("refused".to_owned())), Status::Failed);
    }

    #[test]
    fn a_page_on_https_cannot_post_to_plain_http() {
        let judge = |public: Option<&str>, form: Option<&str>| {
            let parse = |text: Option<&str>| text.map(|text| text.parse::<Url>().unwrap());
            status(judge_scheme(parse(public).as_ref(), parse(form).as_ref()))
        };
        assert_eq!(judge(None, None), Status::Skipped);
        assert_eq!(judge(Some("http://localhost:8080"), None), Status::Ok);
        assert_eq!(judge(Some("http://uploads.example.com"), None), Status::Warning);
        assert_eq!(judge(Some("https://uploads.example.com"), Some("https://s3.example.com")), Status::Ok);
        assert_eq!(judge(Some("https://uploads.example.com"), Some("http://minio:9000")), Status::Failed);
    }
}
