//! One statement for many callers: whatever is asked for while the last answer is being made is answered together.
//!
//! A statement on SQLite costs two changes of thread, whatever it does. Under load many callers ask for the same kind of
//! thing at once; alone, a caller does not wait for others.

use std::future::Future;

use tokio::sync::{mpsc, oneshot};

use super::LedgerError;

/// How many may wait before callers do.
const WAITING: usize = 4096;
/// How many are answered together at most.
const TOGETHER: usize = 256;

/// Asks for things together with others. Cheap to clone.
pub struct Gather<Q, A> {
    asked: mpsc::Sender<(Q, oneshot::Sender<Result<A, LedgerError>>)>,
}

impl<Q, A> Clone for Gather<Q, A> {
    fn clone(&self) -> Self {
        Self { asked: self.asked.clone() }
    }
}

impl<Q: Send + 'static, A: Send + 'static> Gather<Q, A> {
    /// Starts a task that hands what was asked to `answer`, which gives an answer to each, in order. The task ends when
    /// the last clone is gone.
    pub fn new<F, R>(answer: F) -> Self
    where
        F: Fn(Vec<Q>) -> R + Send + 'static,
        R: Future<Output = Result<Vec<A>, LedgerError>> + Send,
    {
        let (asked, mut waiting) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            let mut batch: Vec<(Q, oneshot::Sender<_>)> = Vec::new();
            while waiting.recv_many(&mut batch, TOGETHER).await > 0 {
                let (questions, callers): (Vec<Q>, Vec<_>) = batch.drain(..).unzip();
                reply(callers, answer(questions).await);
            }
        });
        Self { asked }
    }

    /// The answer to one question. An error is that of all who were answered together.
    pub async fn ask(&self, question: Q) -> Result<A, LedgerError> {
        let (caller, answered) = oneshot::channel();
        let gone = || LedgerError::Uncommitted("the ledger is closed".to_owned());
        self.asked.send((question, caller)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

fn reply<A>(callers: Vec<oneshot::Sender<Result<A, LedgerError>>>, answers: Result<Vec<A>, LedgerError>) {
    match answers {
        Ok(answers) => {
            debug_assert_eq!(answers.len(), callers.len(), "one answer for each question");
            for (caller, answer) in callers.into_iter().zip(answers) {
                // A caller that no longer waits needs no answer.
                drop(caller.send(Ok(answer)));
            }
        }
        Err(error) => {
            let text = crate::job::with_causes(&error);
            for caller in callers {
                drop(caller.send(Err(LedgerError::Together(text.clone()))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
    async fn an_error_is_told_to_all_who_were_answered_together() {
        let broken = Gather::new(|_: Vec<u32>| async { Err::<Vec<u32>, _>(LedgerError::Uncommitted("no".into())) });
        let (one, two) = tokio::join!(broken.ask(1), broken.ask(2));
        assert!(one.unwrap_err().to_string().contains("no"));
        assert!(two.is_err());
    }
}
