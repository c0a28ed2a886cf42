//! A line to a server that can go dead without a word, as a failover or a forgetful router leaves it.

use std::io;

use tokio::io::{AsyncReadExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use url::Url;

/// Passes connections on to a server until it is [cut](Line::cut). It ends when it is dropped.
pub struct Line {
    url: String,
    cuts: watch::Sender<u32>,
    passing_on: AbortHandle,
}

impl Line {
    /// A line to the server of this URL, which names a host and a port.
    pub async fn to(server: &str) -> Self {
        let mut url = Url::parse(server).expect("the URL of a server");
        let far_end = (url.host_str().expect("a host").to_owned(), url.port().expect("a port"));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        url.set_host(Some("127.0.0.1")).expect("a URL that has a host");
        url.set_port(Some(port)).expect("a URL that has a host");
        let cuts = watch::Sender::new(0);
        let passing_on = tokio::spawn(pass_on(listener, far_end, cuts.clone())).abort_handle();
        Self { url: url.into(), cuts, passing_on }
    }

    /// Where the near end is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on the connections that stand take what is written to them and answer nothing. New ones work.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.passing_on.abort();
    }
}

async fn pass_on(listener: TcpListener, far_end: (String, u16), cuts: watch::Sender<u32>) {
    loop {
        let (near, _) = listener.accept().await.expect("a connection");
        let (far_end, cut) = (far_end.clone(), cuts.subscribe());
        tokio::spawn(async move {
            let far = TcpStream::connect(far_end).await.expect("the server for tests answers");
            // However it ends, both sides have seen it.
            drop(pass_until_cut(near, far, cut).await);
        });
    }
}

async fn pass_until_cut(mut near: TcpStream, mut far: TcpStream, mut cut: watch::Receiver<u32>) -> io::Result<()> {
    tokio::select! {
        passed = copy_bidirectional(&mut near, &mut far) => return passed.map(drop),
        _ = cut.changed() => drop(far),
    }
    let mut swallowed = [0; 1024];
    while near.read(&mut swallowed).await? > 0 {}
    Ok(())
}
