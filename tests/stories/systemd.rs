//! What systemd is told of the real program: ready no sooner than it serves, alive while it lives, stopping when it ends.

use std::io::{BufRead as _, BufReader, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::server::{Place, client};

const PATIENCE: Duration = Duration::from_secs(60);

/// systemd's side, and the settings by which a process finds it.
struct Systemd {
    _folder: TempDir,
    socket: UnixDatagram,
    settings: Vec<(String, String)>,
}

impl Systemd {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let settings = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "200000")];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Self { _folder: folder, socket, settings }
    }

    fn hear(&self) -> std::io::Result<String> {
        let mut said = [0; 256];
        let length = self.socket.recv(&mut said)?;
        Ok(String::from_utf8_lossy(&said[..length]).into_owned())
    }

    /// The first that is no sign of life.
    fn hear_news(&self) -> String {
        loop {
            let said = self.hear().unwrap();
            if said != "WATCHDOG=1" {
                return said;
            }
        }
    }
}

#[tokio::test]
async fn systemd_hears_of_the_start_of_life_and_of_the_end() {
    let systemd = Systemd::start();
    let server = Place::new(systemd.settings.clone(), None).up();

    assert_eq!(systemd.hear().unwrap(), "READY=1");
    let answer = client().get(format!("{}/readyz", server.url)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!([systemd.hear().unwrap(), systemd.hear().unwrap()], ["WATCHDOG=1", "WATCHDOG=1"]);
    server.terminate();

    assert_eq!(systemd.hear_news(), "STOPPING=1");
}

#[test]
fn a_process_that_waits_for_its_ledger_is_not_ready() {
    let systemd = Systemd::start();
    let nowhere = ("LONGSHORE_DATABASE_URL".to_owned(), "postgres://127.0.0.1:1/nowhere".to_owned());
    let place = Place::new([systemd.settings.clone(), vec![nowhere]].concat(), None);

    let mut waiting: Command = place.command(&["up"]);
    let mut waiting = waiting.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(waiting.stderr.take().unwrap()).lines();
    assert!(log.by_ref().map_while(Result::ok).any(|line| line.contains("not there yet")), "it ended early");

    systemd.socket.set_nonblocking(true).unwrap();
    assert_eq!(systemd.hear().unwrap_err().kind(), ErrorKind::WouldBlock);
    waiting.kill().unwrap();
    waiting.wait().unwrap();
}
