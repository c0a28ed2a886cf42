//! The queue of messages: those that wait, and those that were handed out and come back unless they are deleted in time.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use md5::{Digest as _, Md5};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

/// A message.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// For people.
    pub(super) id: Uuid,
    /// What was sent.
    pub(super) body: String,
    /// How often it was handed out.
    pub(super) received: u32,
}

impl Message {
    fn new(body: String) -> Self {
        Self { id: Uuid::new_v4(), body, received: 0 }
    }
}

/// Clients of other languages compare it.
pub(super) fn md5_of(body: &str) -> String {
    hex::encode(Md5::digest(body))
}

/// One standard queue.
#[derive(Default)]
pub(super) struct Messages {
    state: Mutex<State>,
    bell: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Message>,
    handed_out: HashMap<u64, HandedOut>,
    /// Receipts by when their message comes back.
    back: BTreeSet<(Instant, u64)>,
    receipts: u64,
}

struct HandedOut {
    message: Message,
    back_at: Instant,
}

/// How much waits and how much is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Depth {
    pub(super) waiting: usize,
    pub(super) handed_out: usize,
}

impl Messages {
    /// Puts a message behind those that wait, or at a place among them, from 0 for the first to 1. Returns its id.
    pub(super) fn send(&self, body: String, place: Option<f64>) -> Uuid {
        let message = Message::new(body);
        let id = message.id;
        let mut state = self.state();
        state.waiting.push_back(message);
        if let Some(place) = place {
            // Whatever was there goes to the end, which is as random a place as any.
            let last = state.waiting.len() - 1;
            state.waiting.swap(last, place_among(last, place));
        }
        drop(state);
        self.bell.notify_one();
        id
    }

    /// At most so many messages, each with its receipt; none come before `wait` is over unless some are there. They come back
    /// after `visibility`.
    pub(super) async fn receive(&self, most: usize, wait: Duration, visibility: Duration) -> Vec<(u64, Message)> {
        let deadline = Instant::now() + wait;
        let _looks_next = RingAtEnd(&self.bell);
        loop {
            let (taken, next_back) = self.state().take(most, visibility);
            if !taken.is_empty() {
                return taken;
            }
            if Instant::now() >= deadline {
                return Vec::new();
            }
            // One ring may stand for several messages, and this one may have taken another's: so it is only a reason to look.
            let until = next_back.map_or(deadline, |back| back.min(deadline));
            drop(timeout_at(until, self.bell.notified()).await);
        }
    }

    /// Removes a message that is handed out. One that has come back meanwhile stays.
    pub(super) fn delete(&self, receipt: u64) {
        let mut state = self.state();
        if let Some(HandedOut { back_at, .. }) = state.handed_out.remove(&receipt) {
            state.back.remove(&(back_at, receipt));
        }
    }

    /// Lets a message that is handed out come back after this time from now; `false` where it is not.
    pub(super) fn change_visibility(&self, receipt: u64, visibility: Duration) -> bool {
        let is_changed = self.state().move_back(receipt, Instant::now() + visibility);
        // Whoever waits knows only of the old time.
        self.bell.notify_one();
        is_changed
    }

    /// Messages that should have come back count as waiting.
    pub(super) fn depth(&self) -> Depth {
        let mut state = self.state();
        state.bring_back(Instant::now());
        Depth { waiting: state.waiting.len(), handed_out: state.handed_out.len() }
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> Vec<String> {
        self.state().waiting.iter().map(|message| message.body.clone()).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can panic half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever else waits may not know of what has been handed out since, and when that comes back.
struct RingAtEnd<'a>(&'a Notify);

impl Drop for RingAtEnd<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl State {
    /// The messages, and when the next comes back where there are none.
    fn take(&mut self, most: usize, visibility: Duration) -> (Vec<(u64, Message)>, Option<Instant>) {
        let now = Instant::now();
        self.bring_back(now);
        let count = most.min(self.waiting.len());
        let taken = (0..count).filter_map(|_| self.hand_out(now + visibility)).collect();
        (taken, self.back.first().map(|(back_at, _)| *back_at))
    }

    fn hand_out(&mut self, back_at: Instant) -> Option<(u64, Message)> {
        let mut message = self.waiting.pop_front()?;
        message.received += 1;
        self.receipts += 1;
        let receipt = self.receipts;
        self.back.insert((back_at, receipt));
        self.handed_out.insert(receipt, HandedOut { message: message.clone(), back_at });
        Some((receipt, message))
    }

    fn bring_back(&mut self, now: Instant) {
        while let Some((back_at, receipt)) = self.back.first().copied().filter(|(back_at, _)| *back_at <= now) {
            self.back.remove(&(back_at, receipt));
            self.waiting.extend(self.handed_out.remove(&receipt).map(|handed_out| handed_out.message));
        }
    }

    fn move_back(&mut self, receipt: u64, back_at: Instant) -> bool {
        let Some(handed_out) = self.handed_out.get_mut(&receipt) else { return false };
        self.back.remove(&(handed_out.back_at, receipt));
        handed_out.back_at = back_at;
        self.back.insert((back_at, receipt));
        true
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a place in a list of some thousands"
)]
fn place_among(last: usize, place: f64) -> usize {
    ((place * (last + 1) as f64) as usize).min(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);
    const AT_ONCE: Duration = Duration::ZERO;

    #[tokio::test]
    async fn what_is_deleted_does_not_come_back_and_the_rest_does() {
        let messages = Messages::default();
        messages.send("one".into(), None);
        messages.send("two".into(), None);
        let taken = messages.receive(10, AT_ONCE, LONG).await;
        assert_eq!(messages.depth(), Depth { waiting: 0, handed_out: 2 });
        messages.delete(taken[0].0);
        assert!(messages.change_visibility(taken[1].0, AT_ONCE));

        let again = messages.receive(10, LONG, LONG).await;

        let [(receipt, message)] = &again[..] else { panic!("{again:?}") };
        assert_eq!((message.body.as_str(), message.received, message.id), ("two", 2, taken[1].1.id));
        messages.delete(taken[1].0);
        assert_eq!(messages.depth(), Depth { waiting: 0, handed_out: 1 }, "an old receipt deletes nothing");
        messages.delete(*receipt);
        assert_eq!(messages.depth(), Depth { waiting: 0, handed_out: 0 });
        assert!(!messages.change_visibility(*receipt, LONG));
    }

    #[tokio::test]
    async fn a_receiver_is_woken_by_what_is_sent_and_by_what_comes_back() {
        let messages = Messages::default();
        let (taken, _) = tokio::join!(messages.receive(1, LONG, Duration::from_millis(20)), async {
            messages.send("late".into(), None)
        });
        assert_eq!(taken.len(), 1);
        let again = messages.receive(1, LONG, LONG).await;
        assert_eq!(again[0].1.received, 2);
    }

    #[tokio::test]
    async fn what_another_lets_go_reaches_whoever_has_waited_for_longer() {
        let messages = Messages::default();
        let first_waits = messages.receive(1, LONG, LONG);
        let another_takes_and_forgets = async {
            messages.state().waiting.push_back(Message::new("silent".into()));
            messages.receive(1, AT_ONCE, Duration::from_millis(20)).await
        };
        let (first, another) = tokio::join!(first_waits, another_takes_and_forgets);
        assert_eq!((first[0].1.received, another[0].1.received), (2, 1));
    }

    #[tokio::test]
    async fn nothing_is_answered_when_the_wait_is_over() {
        let messages = Messages::default();
        assert!(messages.receive(1, Duration::from_millis(5), LONG).await.is_empty());
    }
}
