//! One statement for many callers: whatever is asked for while the last answer is being made is answered together.
//!
//! A statement on SQLite costs two changes of thread, one on PostgreSQL a round trip and a commit, whatever it does. Under load
//! many callers ask for the same kind of thing at once; alone, a caller does not wait for others.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot};

use super::LedgerError;
use crate::job::with_causes;

/// How many may wait before callers do.
const WAITING: usize = 4096;
/// How many are answered together at most.
const TOGETHER: usize = 256;
/// How often it is attempted again after a clash with what another process wrote at the same time.
const CLASHES: usize = 3;

/// Asks for things together with others. Cheap to clone.
pub struct Gather<Q, A> {
    asked: mpsc::Sender<(Q, Caller<A>)>,
}

impl<Q, A> Clone for Gather<Q, A> {
    fn clone(&self) -> Self {
        Self { asked: self.asked.clone() }
    }
}

impl<Q: Clone + Send + 'static, A: Send + 'static> Gather<Q, A> {
    /// Starts a task that hands what was asked to `answer`, which gives an answer to each, in order. The task ends when
    /// the last clone is gone.
    pub fn new<F, R>(answer: F) -> Self
    where
        F: Fn(Vec<Q>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Vec<A>, LedgerError>> + Send,
    {
        let (asked, mut waiting) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            let mut batch: Vec<(Q, Caller<A>)> = Vec::new();
            while waiting.recv_many(&mut batch, TOGETHER).await > 0 {
                answer_all(&answer, batch.drain(..).unzip()).await;
            }
        });
        Self { asked }
    }

    /// The answer to one question.
    pub async fn ask(&self, question: Q) -> Result<A, LedgerError> {
        let (caller, answered) = oneshot::channel();
        let gone = || LedgerError::Uncommitted("the ledger is closed".to_owned());
        self.asked.send((question, caller)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

type Caller<A> = oneshot::Sender<Result<A, LedgerError>>;

/// Answers together; if that fails, each alone, so that nobody fails for what another has asked. Where nobody is to blame, all
/// are answered at once: to ask an engine that is away would take each of them the time that it took all.
async fn answer_all<Q, A, F, R>(answer: &F, (questions, callers): (Vec<Q>, Vec<Caller<A>>))
where
    Q: Clone,
    F: Fn(Vec<Q>) -> R,
    R: Future<Output = Result<Vec<A>, LedgerError>>,
{
    let alone = questions.clone();
    match guarded(answer(questions)).await {
        Ok(answers) => {
            debug_assert_eq!(answers.len(), callers.len(), "one answer for each question");
            for (caller, answer) in callers.into_iter().zip(answers) {
                tell(caller, Ok(answer));
            }
        }
        Err(error) if error.is_outage() || alone.len() == 1 && !may_pass(&error) => tell_all(callers, error),
        Err(error) => {
            tracing::warn!(error = with_causes(&error), questions = alone.len(), "asked again, each alone");
            answer_each(answer, alone, callers).await;
        }
    }
}

/// Answers one after the other, until the engine goes away.
async fn answer_each<Q, A, F, R>(answer: &F, questions: Vec<Q>, callers: Vec<Caller<A>>)
where
    Q: Clone,
    F: Fn(Vec<Q>) -> R,
    R: Future<Output = Result<Vec<A>, LedgerError>>,
{
    let mut callers = callers.into_iter();
    for question in questions {
        let answered = answer_alone(answer, question).await;
        let Some(caller) = callers.next() else { return };
        match answered {
            Err(error) if error.is_outage() => {
                return tell_all(std::iter::once(caller).chain(callers), error);
            }
            answered => tell(caller, answered),
        }
    }
}

async fn answer_alone<Q, A, F, R>(answer: &F, question: Q) -> Result<A, LedgerError>
where
    Q: Clone,
    F: Fn(Vec<Q>) -> R,
    R: Future<Output = Result<Vec<A>, LedgerError>>,
{
    let answered = past_clashes(move || guarded(answer(vec![question.clone()]))).await;
    let unanswered = || LedgerError::Uncommitted("nothing was answered".to_owned());
    answered.and_then(|mut answers| answers.pop().ok_or_else(unanswered))
}

/// Attempts it, and again if what others write at the same time is in the way.
pub async fn past_clashes<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, LedgerError>
where
    F: Future<Output = Result<T, LedgerError>>,
{
    for _ in 0..CLASHES {
        match attempt().await {
            Err(error) if may_pass(&error) => {}
            ended => return ended,
        }
    }
    attempt().await
}

/// Whether the same question may be answered a moment later. A unique row that another process wrote during our statement is
/// in the way of it, but the next statement sees the row and minds it.
fn may_pass(error: &LedgerError) -> bool {
    error.is_clash() || error.is_taken()
}

/// A panic is an error of those who asked, not the end of all answers.
pub(super) async fn guarded<T>(work: impl Future<Output = Result<T, LedgerError>>) -> Result<T, LedgerError> {
    let ended = AssertUnwindSafe(work).catch_unwind().await;
    ended.unwrap_or_else(|_| Err(LedgerError::Uncommitted("its body panicked".to_owned())))
}

fn tell<A>(caller: Caller<A>, answer: Result<A, LedgerError>) {
    // A caller that no longer waits needs no answer.
    drop(caller.send(answer));
}

/// Tells all the same, the first of them with its sources.
fn tell_all<A>(callers: impl IntoIterator<Item = Caller<A>>, error: LedgerError) {
    let mut callers = callers.into_iter();
    let first = callers.next();
    for caller in callers {
        tell(caller, Err(error.retold()));
    }
    if let Some(caller) = first {
        tell(caller, Err(error));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn many_are_answered_together_and_each_with_its_own() {
        let rounds = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&rounds);
        let double = Gather::new(move |numbers: Vec<u32>| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                tokio::task::yield_now().await;
                Ok(numbers.into_iter().map(|number| number * 2).collect())
            }
        });

        let answers = futures_util::future::join_all((0..100).map(|number| double.ask(number))).await;

        assert!(answers.into_iter().zip(0..).all(|(answer, number)| answer.unwrap() == number * 2));
        assert!(rounds.load(Ordering::SeqCst) < 10);
    }

    #[tokio::test]
    async fn nobody_fails_for_what_another_has_asked() {
        let picky = Gather::new(|numbers: Vec<u32>| async move {
            assert!(!numbers.contains(&13), "unlucky");
            let odd = numbers.iter().any(|number| number % 2 == 1);
            if odd { Err(LedgerError::Uncommitted("odd".to_owned())) } else { Ok(numbers) }
        });

        let (even, odd, unlucky) = tokio::join!(picky.ask(2), picky.ask(3), picky.ask(13));

        assert_eq!(even.unwrap(), 2);
        assert!(odd.unwrap_err().to_string().contains("odd"));
        assert!(unlucky.unwrap_err().to_string().contains("panicked"));
        assert_eq!(picky.ask(4).await.unwrap(), 4, "it still answers");
    }

    fn away() -> LedgerError {
        sqlx::Error::from(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")).into()
    }

    fn says_away<T>(answer: Result<T, LedgerError>) -> bool {
        matches!(answer, Err(LedgerError::Engine(sqlx::Error::Io(error))) if error.kind() == io::ErrorKind::TimedOut)
    }

    /// Answers many with `together` and one alone with `away`; says how often it was asked to.
    fn failing(together: fn() -> LedgerError) -> (Gather<u32, ()>, Arc<AtomicUsize>) {
        let rounds = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&rounds);
        let gather = Gather::new(move |numbers: Vec<u32>| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move { Err(if numbers.len() > 1 { together() } else { away() }) }
        });
        (gather, rounds)
    }

    #[tokio::test]
    async fn an_outage_is_told_to_all_at_once() {
        let (gather, rounds) = failing(away);

        let answers = futures_util::future::join_all((0..100).map(|number| gather.ask(number))).await;

        assert!(answers.into_iter().all(says_away));
        assert!(rounds.load(Ordering::SeqCst) <= 2, "asked {rounds:?} times");
    }

    #[tokio::test]
    async fn an_outage_while_each_is_asked_alone_is_told_to_the_rest_at_once() {
        let (gather, rounds) = failing(|| LedgerError::Taken);

        let answers = futures_util::future::join_all((0..100).map(|number| gather.ask(number))).await;

        assert!(answers.into_iter().all(says_away));
        assert!(rounds.load(Ordering::SeqCst) <= 3, "asked {rounds:?} times");
    }
}
