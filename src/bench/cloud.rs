//! The light server as a process: in the foreground for scripts, or as a child for a bench that needs one beside it.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use longshore_jobs::outside::BoxError;
use tokio::net::TcpListener;

use super::light::{self, Options};
use crate::cli::say;
use crate::listen::{self, Bounds};
use crate::shutdown;

/// Connections at once: more than any load here opens.
const CONNECTIONS: usize = 10_000;
/// Whoever waits for a message when we are to stop is cut off.
const END: Duration = Duration::from_millis(200);

/// Serves until a signal comes. The first line on stdout is the address.
pub(crate) async fn cloud(listen: SocketAddr, options: Options) -> Result<(), BoxError> {
    let listener = TcpListener::bind(listen).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let stop = shutdown::on_signal()?;
    say(format!("{url}\n"));
    listen::serve(listener, light::router(url, options), Bounds::new(CONNECTIONS, END), stop).await;
    Ok(())
}

/// A light server in a process of its own. It ends when this is dropped.
pub(super) struct CloudProcess {
    child: Child,
    /// Its address.
    pub(super) url: String,
}

impl CloudProcess {
    /// Starts one with these flags, and waits until it serves.
    pub(super) async fn start(flags: Vec<String>) -> Result<Self, BoxError> {
        tokio::task::spawn_blocking(move || Self::spawn(&flags)).await?
    }

    fn spawn(flags: &[String]) -> Result<Self, BoxError> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command
            .args(["bench", "cloud", "--listen", "127.0.0.1:0"])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().ok_or("the light server has no output")?;
        // From here on it ends with us, whatever happens.
        let mut started = Self { child, url: String::new() };
        BufReader::new(output).read_line(&mut started.url)?;
        started.url.truncate(started.url.trim_end().len());
        if started.url.is_empty() { Err("the light server did not start".into()) } else { Ok(started) }
    }
}

impl Drop for CloudProcess {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            tracing::warn!(%error, "the light server may still run");
        }
    }
}
