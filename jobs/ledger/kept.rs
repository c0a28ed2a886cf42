//! A count that is kept for a while when it was slow: to count a million rows costs a fifth of a second and more, and every
//! process is asked at every scrape.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

/// More rows than this are many: to count so many takes some milliseconds.
pub const MANY: u64 = 10_000;
/// A count is kept for so many times as long as it took, so that counting takes a hundredth of the time.
const SHARE: u32 = 100;
/// But no longer than this.
const LONGEST: Duration = Duration::from_secs(30);

/// The last count of something, if there were many.
pub struct Kept<T>(Mutex<Option<Last<T>>>);

struct Last<T> {
    counted: T,
    until: Instant,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Kept<T> {
    /// What was counted last, or what is counted now; one counts at a time. Where `rows` says that there are few, it is counted
    /// anew each time.
    pub async fn or_count<E>(
        &self,
        rows: impl Fn(&T) -> u64,
        count: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let mut last = self.0.lock().await;
        let started = Instant::now();
        if let Some(last) = last.as_ref().filter(|last| started < last.until) {
            return Ok(last.counted.clone());
        }
        *last = None;
        let counted = count.await?;
        let life = life(rows(&counted), started.elapsed());
        *last = life.map(|life| Last { counted: counted.clone(), until: Instant::now() + life });
        Ok(counted)
    }

    /// For who knows that there are few by now.
    pub async fn forget(&self) {
        *self.0.lock().await = None;
    }
}

/// How long a count is good for that found so many rows and took so long.
fn life(rows: u64, took: Duration) -> Option<Duration> {
    (rows > MANY).then(|| LONGEST.min(took * SHARE))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// What is answered by one that would count `now`, and knows of so many rows in each count.
    async fn ask(kept: &Kept<u64>, now: u64, rows: u64) -> u64 {
        kept.or_count(|_| rows, async { Ok::<_, Infallible>(now) }).await.unwrap()
    }

    /// As if its count had taken very long.
    async fn slow(kept: &Kept<u64>) {
        if let Some(last) = kept.0.lock().await.as_mut() {
            last.until = Instant::now() + LONGEST;
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

        assert_eq!(ask(&kept, 1, MANY + 1).await, 1);
        slow(&kept).await;
        assert_eq!(ask(&kept, 2, MANY + 1).await, 1);
        kept.forget().await;
        assert_eq!(ask(&kept, 3, MANY).await, 3);
        slow(&kept).await;
        assert_eq!(ask(&kept, 4, MANY).await, 4, "few are counted each time");
    }
}
