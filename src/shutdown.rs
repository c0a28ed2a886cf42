//! Ends the process in good order: the first signal asks, the second insists.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancels the token at the first SIGINT or SIGTERM; at the second the process ends at once with code 1.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::spawn(listen(stop.clone(), interrupt, terminate));
    Ok(stop)
}

async fn listen(stop: CancellationToken, mut interrupt: Signal, mut terminate: Signal) {
    let mut next = async || {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    next().await;
    tracing::info!("stopping; a second signal ends at once");
    stop.cancel();
    next().await;
    tracing::warn!("stopped at once; what was under way is taken up again at the next start");
    std::process::exit(1);
}
