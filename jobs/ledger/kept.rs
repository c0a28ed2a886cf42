//! A count that is kept for a while when it was slow: to count a million rows costs a fifth of a second and more, and every
//! process is asked at every scrape.
//!
//! Nobody waits for a slow count but the first who asks: behind that one the last count is shown while a new one goes on in the
//! background. `longshore_reading_age_seconds` tells how old it is, of counts that every scrape asks for: of others it would
//! stand where somebody has looked last.

use std::sync::{Arc, Mutex as Lock, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::timeout;

use super::LedgerError;

/// More rows than this are many: to count so many takes some milliseconds.
pub const MANY: u64 = 10_000;
/// A count is kept for so many times as long as it took, so that counting takes a hundredth of the time.
const SHARE: u32 = 100;
/// But no longer than this.
const LONGEST: Duration = Duration::from_secs(30);
/// How long a count is waited for where there is an earlier one.
const MOMENT: Duration = Duration::from_millis(25);

/// The last count of something, if there were many. Cheap to clone.
pub struct Kept<T>(Arc<Counting<T>>);

struct Counting<T> {
    /// What is counted, in one word, if scrapes ask for it.
    scraped_as: Option<&'static str>,
    last: Lock<Option<Last<T>>>,
    /// One counts at a time.
    turn: Arc<Mutex<()>>,
}

#[derive(Clone)]
struct Last<T> {
    counted: T,
    begun: Instant,
    until: Instant,
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Of what people alone ask for: nothing is counted yet.
impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Arc::new(Counting { scraped_as: None, last: Lock::default(), turn: Arc::default() }))
    }
}

impl<T: Clone + Send + 'static> Kept<T> {
    /// Nothing is counted yet of what every scrape shows by this word.
    #[must_use]
    pub fn scraped_as(what: &'static str) -> Self {
        Self(Arc::new(Counting { scraped_as: Some(what), last: Lock::default(), turn: Arc::default() }))
    }

    /// What was counted last, or what is counted now if that takes but a moment; one counts at a time. Where `rows` says that
    /// there are few, it is counted anew each time.
    pub async fn or_count(
        &self,
        rows: fn(&T) -> u64,
        count: impl Future<Output = Result<T, LedgerError>> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let before = self.last().clone();
        let Some(last) = before else {
            let turn = Arc::clone(&self.0.turn).lock_owned().await;
            return Ok(self.shown(self.count(turn, rows, count).await?));
        };
        if Instant::now() < last.until {
            return Ok(self.shown(last));
        }
        let Ok(turn) = Arc::clone(&self.0.turn).try_lock_owned() else { return Ok(self.shown(last)) };
        let kept = self.clone();
        let counting = tokio::spawn(async move { kept.count(turn, rows, count).await });
        match timeout(MOMENT, counting).await {
            Ok(Ok(counted)) => Ok(self.shown(counted?)),
            Ok(Err(_)) => Err(LedgerError::Uncommitted("a count has panicked".to_owned())),
            Err(_) => Ok(self.shown(last)),
        }
    }

    /// For who knows that there are few by now.
    pub fn forget(&self) {
        *self.last() = None;
    }

    /// What another has counted while this one waited for its turn, else what is counted now.
    async fn count(
        &self,
        _turn: OwnedMutexGuard<()>,
        rows: fn(&T) -> u64,
        count: impl Future<Output = Result<T, LedgerError>>,
    ) -> Result<Last<T>, LedgerError> {
        let begun = Instant::now();
        if let Some(last) = self.last().clone().filter(|last| begun < last.until) {
            return Ok(last);
        }
        let counted = count.await?;
        let life = life(rows(&counted), begun.elapsed());
        let last = Last { counted, begun, until: Instant::now() + life.unwrap_or_default() };
        *self.last() = life.map(|_| last.clone());
        Ok(last)
    }

    fn shown(&self, last: Last<T>) -> T {
        if let Some(what) = self.0.scraped_as {
            metrics::gauge!("longshore_reading_age_seconds", "reading" => what).set(last.begun.elapsed().as_secs_f64());
        }
        last.counted
    }

    fn last(&self) -> MutexGuard<'_, Option<Last<T>>> {
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a count is good for that found so many rows and took so long.
fn life(rows: u64, took: Duration) -> Option<Duration> {
    (rows > MANY).then(|| LONGEST.min(took * SHARE))
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    /// What is answered by one that would count `now`, which is that many rows.
    async fn ask(kept: &Kept<u64>, now: u64) -> u64 {
        kept.or_count(|rows| *rows, async move { Ok(now) }).await.unwrap()
    }

    /// As if its count had been good for so long.
    fn lasts(kept: &Kept<u64>, life: Duration) {
        if let Some(last) = kept.last().as_mut() {
            last.until = Instant::now() + life;
        }
    }

    #[test]
    fn a_count_is_good_for_as_long_as_it_was_slow_and_of_few_not_at_all() {
        let took = Duration::from_millis;
        assert_eq!(life(MANY + 1, took(200)), Some(took(20_000)));
        assert_eq!(life(MANY + 1, took(1_000)), Some(LONGEST));
        assert_eq!(life(MANY, took(1_000)), None);
    }

    #[tokio::test]
    async fn a_slow_count_of_many_is_kept_until_somebody_knows_better() {
        let kept = Kept::default();

        assert_eq!(ask(&kept, MANY + 1).await, MANY + 1);
        lasts(&kept, LONGEST);
        assert_eq!(ask(&kept, MANY + 2).await, MANY + 1);
        kept.forget();
        assert_eq!(ask(&kept, MANY).await, MANY);
        lasts(&kept, LONGEST);
        assert_eq!(ask(&kept, 4).await, 4, "few are counted each time");
    }

    #[tokio::test]
    async fn a_count_that_takes_long_shows_the_one_before_and_goes_on() {
        let kept = Kept::default();
        ask(&kept, MANY + 1).await;
        lasts(&kept, Duration::ZERO);
        let (go, went) = tokio::sync::oneshot::channel();

        let shown = kept.or_count(|rows| *rows, async move { Ok(went.await.unwrap_or(0)) }).await.unwrap();
        assert_eq!(shown, MANY + 1);

        go.send(MANY + 2).unwrap();
        while kept.last().as_ref().is_none_or(|last| last.counted != MANY + 2) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_count_that_hangs_holds_up_nobody_who_knows_an_earlier_one() {
        let kept = Kept::default();
        ask(&kept, MANY + 1).await;
        lasts(&kept, Duration::ZERO);

        for _ in 0..3 {
            assert_eq!(kept.or_count(|rows| *rows, pending()).await.unwrap(), MANY + 1);
        }
    }
}
