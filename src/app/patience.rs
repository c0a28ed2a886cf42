//! Waiting at the start for servers that are away: a fleet is often brought up together with them, in no order.

use std::iter;
use std::time::Duration;

use longshore_jobs::job::with_causes;
use tokio::time::sleep;

use super::StartError;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How many pauses make up a minute. Then whoever watches the process has to hear of it.
const PAUSES: usize = 15;

/// Opens it, again and again for about a minute as long as the error is one that may pass. The errors say what it is.
pub(super) async fn patiently<T>(open: impl AsyncFnMut() -> Result<T, StartError>) -> Result<T, StartError> {
    with_pauses(pauses(), open).await
}

fn pauses() -> impl Iterator<Item = Duration> {
    iter::successors(Some(FIRST_PAUSE), |pause| Some((*pause * 2).min(LONGEST_PAUSE))).take(PAUSES)
}

async fn with_pauses<T>(
    pauses: impl Iterator<Item = Duration>,
    mut open: impl AsyncFnMut() -> Result<T, StartError>,
) -> Result<T, StartError> {
    for pause in pauses {
        match open().await {
            Err(error) if error.may_pass() => {
                tracing::warn!(error = with_causes(&error), "not there yet; tried again in {pause:?}");
            }
            ended => return ended,
        }
        sleep(pause).await;
    }
    open().await
}

#[cfg(test)]
mod tests {
    use std::io;

    use longshore_jobs::ledger::LedgerError;

    use super::*;

    /// The outcome of a start whose first tries fail like this, and how many tries there were.
    async fn start(fails: usize, how: fn() -> sqlx::Error) -> (Result<(), StartError>, usize) {
        let mut tries = 0;
        let ended = with_pauses(pauses().map(|_| Duration::ZERO), async || {
            tries += 1;
            if tries > fails {
                return Ok(());
            }
            Err(StartError::Ledger { ledger: "postgres://db/l".to_owned(), source: LedgerError::Engine(how()) })
        });
        (ended.await, tries)
    }

    fn away() -> sqlx::Error {
        sqlx::Error::Io(io::ErrorKind::ConnectionRefused.into())
    }

    #[tokio::test]
    async fn a_server_that_comes_within_the_minute_is_waited_for_and_no_longer() {
        let all: Duration = pauses().sum();
        assert!((Duration::from_secs(55)..Duration::from_secs(65)).contains(&all), "{all:?}");

        assert!(matches!(start(PAUSES, away).await, (Ok(()), 16)));
        assert!(matches!(start(PAUSES + 1, away).await, (Err(StartError::Ledger { .. }), 16)));
    }

    #[tokio::test]
    async fn what_a_server_refuses_is_not_tried_again() {
        let (refused, tries) = start(1, || sqlx::Error::Configuration("no such thing".into())).await;
        assert!(refused.is_err());
        assert_eq!(tries, 1);
    }
}
