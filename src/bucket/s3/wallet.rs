//! The credentials that sign forms: the SDK's chain, asked as seldom as a policy's life allows.
//!
//! The SDK keeps what its own requests sign with in a cache that cannot be read from outside, so this is a second one,
//! over the same chain. A policy dies with the credentials that signed it; hence they are asked for anew, at most once a
//! minute, as soon as those at hand would cut a policy short.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use aws_sdk_s3::config::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_sdk_s3::error::BoxError;
use longshore_jobs::job::with_causes;
use longshore_jobs::model::Timestamp;
use longshore_jobs::model::policy::Credentials;
use longshore_jobs::outside::Clock;

/// Credentials that never end may still be replaced, in a profile's file for instance.
const KEEP: Duration = Duration::from_secs(15 * 60);
/// The chain may have to ask a server, for each policy of thousands.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// Clocks differ, and a form takes a moment to be sent.
const MARGIN: Duration = Duration::from_secs(30);
/// A policy that is cut shorter than this would be dead before its upload has begun.
const SHORTEST: Duration = Duration::from_secs(60);

/// The credentials at hand, and where others come from.
pub(super) struct Wallet {
    chain: SharedCredentialsProvider,
    clock: Arc<dyn Clock>,
    /// Held while the chain is asked, so that it is asked once for all who wait.
    held: tokio::sync::Mutex<Held>,
    access_key_id: Mutex<String>,
}

struct Held {
    credentials: Credentials,
    ends_at: Option<Timestamp>,
    asked_at: Timestamp,
}

/// Credentials, and until when a policy by them is good.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) credentials: Credentials,
    pub(super) until: Timestamp,
}

/// There is nothing to sign with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WalletError {
    /// The chain has nobody to ask.
    #[error("no source of credentials is configured")]
    Unconfigured,
    /// Nobody in the chain gave any.
    #[error("the chain of credentials gave none")]
    None(#[source] BoxError),
    /// A policy would be dead on arrival; newer ones should be there soon.
    #[error("the credentials end at {ends_at}, and there are no newer ones yet")]
    Ending {
        /// When they end.
        ends_at: Timestamp,
    },
}

impl Wallet {
    /// Asks the chain for the first time.
    pub(super) async fn open(
        chain: Option<SharedCredentialsProvider>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, WalletError> {
        let chain = chain.ok_or(WalletError::Unconfigured)?;
        let held = ask(&chain, clock.now()).await?;
        let access_key_id = Mutex::new(held.credentials.access_key_id.clone());
        Ok(Self { chain, clock, held: tokio::sync::Mutex::new(held), access_key_id })
    }

    /// The public half of what was last given.
    pub(super) fn access_key_id(&self) -> String {
        self.access_key_id.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Credentials for a policy that is to be good until `until`, or as long as they last.
    pub(super) async fn lend(&self, until: Timestamp) -> Result<Lent, WalletError> {
        let now = self.clock.now();
        let mut held = self.held.lock().await;
        if held.is_worth_asking(now, until) {
            self.renew(&mut held, now).await?;
        }
        match held.cut() {
            Some(end) if end < until && end < now + SHORTEST => Err(WalletError::Ending { ends_at: end + MARGIN }),
            end => {
                let until = end.map_or(until, |end| end.min(until));
                Ok(Lent { credentials: held.credentials.clone(), until })
            }
        }
    }

    /// A chain that is silent for a while is no harm as long as the old ones are good.
    async fn renew(&self, held: &mut Held, now: Timestamp) -> Result<(), WalletError> {
        match ask(&self.chain, now).await {
            Ok(newer) => *held = newer,
            Err(error) if held.cut().is_none_or(|end| end > now) => {
                tracing::warn!(error = %with_causes(&error), "no newer credentials; going on with those at hand");
                held.asked_at = now;
            }
            Err(error) => return Err(error),
        }
        let mut shown = self.access_key_id.lock().unwrap_or_else(PoisonError::into_inner);
        shown.clone_from(&held.credentials.access_key_id);
        Ok(())
    }
}

impl Held {
    fn is_worth_asking(&self, now: Timestamp, until: Timestamp) -> bool {
        let age = now.since(self.asked_at);
        age >= KEEP || (age >= ASK_AGAIN && self.cut().is_some_and(|end| end < until))
    }

    /// When a policy by these ends at the latest; `None` when they never end.
    fn cut(&self) -> Option<Timestamp> {
        self.ends_at.map(|end| end - MARGIN)
    }
}

async fn ask(chain: &SharedCredentialsProvider, now: Timestamp) -> Result<Held, WalletError> {
    let given = chain.provide_credentials().await.map_err(|error| WalletError::None(error.into()))?;
    let ends_at = given.expiry().and_then(|end| end.duration_since(UNIX_EPOCH).ok());
    let ends_at = ends_at.map(|since| Timestamp::from_millis(0) + since);
    let credentials = Credentials {
        access_key_id: given.access_key_id().to_owned(),
        secret_access_key: given.secret_access_key().to_owned(),
        session_token: given.session_token().map(str::to_owned),
    };
    Ok(Held { credentials, ends_at, asked_at: now })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use aws_credential_types::provider::error::CredentialsError;
    use aws_credential_types::provider::future;
    use aws_sdk_s3::config::{Credentials as Given, ProvideCredentials};
    use longshore_jobs::testkit::HandClock;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Gives another key each time, good for ten minutes of the clock, until it is dry.
    #[derive(Clone, Debug, Default)]
    struct Chain(Arc<State>);

    #[derive(Debug, Default)]
    struct State {
        clock: Arc<HandClock>,
        asked: AtomicU64,
        dry: AtomicBool,
    }

    impl ProvideCredentials for Chain {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            if self.0.dry.load(Ordering::SeqCst) {
                return future::ProvideCredentials::ready(Err(CredentialsError::not_loaded("dry")));
            }
            let key = format!("KEY{}", self.0.asked.fetch_add(1, Ordering::SeqCst));
            let end = UNIX_EPOCH + self.now().since(Timestamp::default()) + 10 * MINUTE;
            let given = Given::new(key, "secret", Some("token".to_owned()), Some(end), "test");
            future::ProvideCredentials::ready(Ok(given))
        }
    }

    impl Chain {
        fn now(&self) -> Timestamp {
            self.0.clock.now()
        }

        async fn wallet(&self) -> Wallet {
            let chain = SharedCredentialsProvider::new(self.clone());
            Wallet::open(Some(chain), self.0.clock.clone()).await.unwrap()
        }
    }

    #[tokio::test]
    async fn a_policy_ends_before_its_credentials() {
        let chain = Chain::default();
        let (wallet, now) = (chain.wallet().await, chain.now());

        let short = wallet.lend(now + 5 * MINUTE).await.unwrap();
        let long = wallet.lend(now + 60 * MINUTE).await.unwrap();

        assert_eq!((short.until, long.until), (now + 5 * MINUTE, now + 10 * MINUTE - MARGIN));
        assert_eq!(long.credentials.session_token.as_deref(), Some("token"));
    }

    #[tokio::test]
    async fn credentials_that_never_end_cut_nothing() {
        let given = Given::new("KEY", "secret", None, None, "test");
        let clock = Arc::new(HandClock::default());
        let wallet = Wallet::open(Some(SharedCredentialsProvider::new(given)), clock.clone()).await.unwrap();

        assert_eq!(wallet.lend(clock.now() + 1000 * MINUTE).await.unwrap().until, clock.now() + 1000 * MINUTE);
    }

    #[tokio::test]
    async fn newer_ones_are_asked_for_when_a_policy_would_be_cut_but_not_within_the_minute() {
        let chain = Chain::default();
        let wallet = chain.wallet().await;
        let lend = async |life: Duration| wallet.lend(chain.now() + life).await.unwrap().credentials.access_key_id;

        assert_eq!(lend(60 * MINUTE).await, "KEY0");
        chain.0.clock.advance(MINUTE);
        assert_eq!(lend(MINUTE).await, "KEY0");
        assert_eq!(lend(60 * MINUTE).await, "KEY1");
        assert_eq!(lend(60 * MINUTE).await, "KEY1");
        assert_eq!(wallet.access_key_id(), "KEY1");
    }

    #[tokio::test]
    async fn a_silent_chain_is_borne_until_a_policy_would_be_dead_on_arrival() {
        let chain = Chain::default();
        let wallet = chain.wallet().await;
        chain.0.dry.store(true, Ordering::SeqCst);

        chain.0.clock.advance(5 * MINUTE);
        assert_eq!(wallet.lend(chain.now() + 60 * MINUTE).await.unwrap().until, chain.now() + 5 * MINUTE - MARGIN);
        chain.0.clock.advance(4 * MINUTE);
        assert!(matches!(wallet.lend(chain.now() + 60 * MINUTE).await, Err(WalletError::Ending { .. })));
        chain.0.clock.advance(MINUTE);
        assert!(matches!(wallet.lend(chain.now() + 60 * MINUTE).await, Err(WalletError::None(_))));
    }

    #[tokio::test]
    async fn without_credentials_nothing_is_opened() {
        let chain = Chain::default();
        chain.0.dry.store(true, Ordering::SeqCst);
        let dry = Wallet::open(Some(SharedCredentialsProvider::new(chain.clone())), chain.0.clock.clone()).await;

        assert!(matches!(dry, Err(WalletError::None(_))));
        assert!(matches!(Wallet::open(None, chain.0.clock.clone()).await, Err(WalletError::Unconfigured)));
    }
}
