//! Tells systemd how this process is: that it serves, that it lives, that it ends.
//!
//! The protocol is datagrams of `NAME=value` lines to the socket that `NOTIFY_SOCKET` names; where nobody listens, nothing is
//! said. Source: `sd_notify(3)` and `sd_watchdog_enabled(3)`. Signs of life are sent from the runtime that does the work: when it
//! is stuck, they end by themselves.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram as Socket};
use std::time::Duration;

use tokio::net::UnixDatagram;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Whoever started us and wants to be told.
pub(crate) struct Systemd {
    socket: UnixDatagram,
    /// How often a sign of life is due; `None` when none is asked for.
    every: Option<Duration>,
}

impl Systemd {
    /// `None` when nobody wants to be told. Must be called in the runtime.
    pub(crate) fn of_process() -> Option<Self> {
        Self::asked_for(|name| std::env::var_os(name), std::process::id())
    }

    fn asked_for(environment: impl Fn(&str) -> Option<OsString>, process: u32) -> Option<Self> {
        let path = environment("NOTIFY_SOCKET").filter(|path| !path.is_empty())?;
        let number = |name| environment(name)?.to_str()?.parse::<u64>().ok();
        // A watchdog that was meant for another process is handed down with the environment.
        let is_ours = environment("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(process.into());
        let limit = number("WATCHDOG_USEC").filter(|&limit| is_ours && limit > 0).map(Duration::from_micros);
        match connect(path.as_bytes()) {
            Ok(socket) => Some(Self { socket, every: limit.map(|limit| limit / 2) }),
            Err(error) => {
                tracing::warn!(%error, path = ?path, "systemd cannot be told how this process is");
                None
            }
        }
    }

    /// Says that this process serves, shows signs of life as long as it `is_alive`, and says that it ends once `stop` comes.
    pub(crate) async fn attend(self, is_alive: impl Fn() -> bool, stop: CancellationToken) {
        self.tell("READY=1").await;
        let mut due = self.every.map(beats);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = next(&mut due) => {}
            }
            if is_alive() {
                self.tell("WATCHDOG=1").await;
            } else {
                tracing::error!("a pool has lost its worker, or its heart stands still: systemd will end this process");
            }
        }
        self.tell("STOPPING=1").await;
    }

    async fn tell(&self, what: &str) {
        if let Err(error) = self.socket.send(what.as_bytes()).await {
            tracing::warn!(%error, what, "systemd was not told");
        }
    }
}

/// A name that begins with `@` is one outside of the file system.
fn connect(path: &[u8]) -> io::Result<UnixDatagram> {
    let socket = Socket::unbound()?;
    let address = match path.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    UnixDatagram::from_std(socket)
}

fn beats(every: Duration) -> Interval {
    let mut beats = interval(every.max(Duration::from_millis(1)));
    // After standing still one sign is enough.
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beats
}

async fn next(due: &mut Option<Interval>) {
    match due {
        Some(due) => drop(due.tick().await),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind::WouldBlock;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;

    use tempfile::TempDir;
    use tokio::runtime::{Builder, Runtime};
    use tokio::task::JoinHandle;

    use super::*;

    /// Much longer than what is waited for takes.
    const PATIENCE: Duration = Duration::from_secs(20);
    /// Many times as long as signs of life are apart.
    const SILENCE: Duration = Duration::from_millis(300);
    const LIMIT_USEC: &str = "20000";

    /// systemd's side.
    struct Listening {
        folder: TempDir,
        socket: Socket,
    }

    impl Listening {
        fn start() -> Self {
            let folder = TempDir::new().unwrap();
            let socket = Socket::bind(folder.path().join("notify")).unwrap();
            Self { folder, socket }
        }

        fn asked(&self, more: &[(&str, &str)]) -> Option<Systemd> {
            let path = self.folder.path().join("notify").into_os_string();
            Systemd::asked_for(
                |name| match name {
                    "NOTIFY_SOCKET" => Some(path.clone()),
                    _ => more.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into()),
                },
                7,
            )
        }

        /// What is said within that time; `None` for silence.
        fn hear(&self, within: Duration) -> Option<String> {
            self.socket.set_read_timeout(Some(within)).unwrap();
            let mut said = [0; 256];
            match self.socket.recv(&mut said) {
                Ok(length) => Some(String::from_utf8_lossy(&said[..length]).into_owned()),
                Err(error) if error.kind() == WouldBlock => None,
                Err(error) => panic!("{error}"),
            }
        }

        /// Passes over what was said before, until nothing more comes.
        fn is_silent(&self) -> bool {
            (0..100).any(|_| self.hear(SILENCE).is_none())
        }
    }

    /// A process with one thread for its work.
    struct Attended {
        runtime: Runtime,
        stop: CancellationToken,
        alive: Arc<AtomicBool>,
        _attending: JoinHandle<()>,
    }

    fn attend(listening: &Listening, more: &[(&str, &str)]) -> Attended {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let systemd = runtime.block_on(async { listening.asked(more) }).unwrap();
        let (stop, alive) = (CancellationToken::new(), Arc::new(AtomicBool::new(true)));
        let pulse = Arc::clone(&alive);
        let _attending = runtime.spawn(systemd.attend(move || pulse.load(Ordering::SeqCst), stop.clone()));
        Attended { runtime, stop, alive, _attending }
    }

    #[test]
    fn it_is_told_of_the_start_and_of_the_end_and_of_no_more_than_it_asked_for() {
        let listening = Listening::start();
        let attended = attend(&listening, &[]);
        assert_eq!(listening.hear(PATIENCE).unwrap(), "READY=1");
        assert_eq!(listening.hear(SILENCE), None);

        attended.stop.cancel();

        assert_eq!(listening.hear(PATIENCE).unwrap(), "STOPPING=1");
    }

    #[test]
    fn signs_of_life_end_while_the_runtime_is_stuck() {
        let listening = Listening::start();
        let attended = attend(&listening, &[("WATCHDOG_USEC", LIMIT_USEC), ("WATCHDOG_PID", "7")]);
        assert_eq!(listening.hear(PATIENCE).unwrap(), "READY=1");
        assert_eq!(listening.hear(PATIENCE).unwrap(), "WATCHDOG=1");

        let ((stuck, is_stuck), (go, going)) = (mpsc::channel(), mpsc::channel::<()>());
        attended.runtime.spawn(async move {
            stuck.send(()).unwrap();
            going.recv().unwrap();
        });
        is_stuck.recv_timeout(PATIENCE).unwrap();
        assert!(listening.is_silent());
        go.send(()).unwrap();

        assert_eq!(listening.hear(PATIENCE).unwrap(), "WATCHDOG=1");
    }

    #[test]
    fn signs_of_life_end_when_a_worker_is_lost() {
        let listening = Listening::start();
        let attended = attend(&listening, &[("WATCHDOG_USEC", LIMIT_USEC)]);
        assert_eq!(listening.hear(PATIENCE).unwrap(), "READY=1");
        assert_eq!(listening.hear(PATIENCE).unwrap(), "WATCHDOG=1");

        attended.alive.store(false, Ordering::SeqCst);
        assert!(listening.is_silent());

        attended.stop.cancel();
        assert_eq!(listening.hear(PATIENCE).unwrap(), "STOPPING=1");
    }

    #[tokio::test]
    async fn a_sign_is_due_twice_as_often_as_the_limit_and_only_if_the_limit_is_ours() {
        let listening = Listening::start();
        let every = |more: &[(&str, &str)]| listening.asked(more).unwrap().every;
        let half = Some(Duration::from_millis(10));
        assert_eq!(every(&[("WATCHDOG_USEC", LIMIT_USEC)]), half);
        assert_eq!(every(&[("WATCHDOG_USEC", LIMIT_USEC), ("WATCHDOG_PID", "7")]), half);
        assert_eq!(every(&[("WATCHDOG_USEC", LIMIT_USEC), ("WATCHDOG_PID", "8")]), None);
        assert_eq!(every(&[("WATCHDOG_USEC", "0")]), None);
        assert_eq!(every(&[("WATCHDOG_USEC", "soon")]), None);
    }

    #[tokio::test]
    async fn a_socket_may_be_outside_of_the_file_system_or_not_there() {
        let name = format!("longshore-{}", uuid::Uuid::now_v7());
        let socket = Socket::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let asked = |path: String| Systemd::asked_for(move |_| Some(path.clone().into()), 7);

        asked(format!("@{name}")).unwrap().tell("READY=1").await;

        let mut said = [0; 7];
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(socket.recv(&mut said).unwrap(), 7);
        assert_eq!(&said, b"READY=1");
        for nowhere in ["/nowhere/notify", ""] {
            assert!(asked(nowhere.to_owned()).is_none(), "{nowhere:?}");
        }
    }
}
