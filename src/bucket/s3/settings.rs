//! How the bucket is set up, as far as the pipeline depends on it: who may post from a browser, whom it tells of what lands,
//! and what it deletes by itself. Only `longshore doctor` asks; the service itself needs none of these rights.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{Event, ExpirationStatus, LifecycleRule, NotificationConfigurationFilter};
use longshore_jobs::job::with_causes;
use longshore_jobs::outside::BucketError;

use super::S3Bucket;
use super::fault::{Said, during};

/// Who may do what from a page of another origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CorsRule {
    /// As written, `*` among them.
    pub(crate) origins: Vec<String>,
    /// `POST` and the like.
    pub(crate) methods: Vec<String>,
}

/// Where the bucket tells of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// To whom.
    pub(crate) to: Receiver,
    /// `s3:ObjectCreated:*` and the like.
    pub(crate) events: Vec<String>,
    /// Of keys that begin so; empty is all.
    pub(crate) prefix: String,
    /// Of keys that end so; empty is all.
    pub(crate) suffix: String,
}

/// Whom a bucket tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Receiver {
    /// A queue, by its ARN.
    Queue(String),
    /// A topic or a function, by its ARN: what comes of it is decided there.
    Other(String),
    /// All events, to the account's bus: rules there decide.
    EventBridge,
}

/// What the bucket does to objects by itself, of a rule that is enabled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rule {
    /// What it is called; may be empty.
    pub(crate) id: String,
    /// Of keys that begin so; empty is all.
    pub(crate) prefix: String,
    /// Whether it is for objects with certain tags alone, which ours never have.
    pub(crate) is_for_tags: bool,
    /// After how many days it deletes; 0 for one that does so at a date.
    pub(crate) expires_after: Option<i32>,
    /// The class to which it moves objects that then cannot be read at once.
    pub(crate) freezes_into: Option<String>,
    /// Whether it clears away the parts of puts that were broken off.
    pub(crate) clears_parts: bool,
}

/// Why a setting is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// We may not look.
    Denied,
    /// The server does not have such a thing.
    Unsupported,
    /// Anything else.
    Failed(String),
}

impl S3Bucket {
    /// The rules for pages of other origins; none when none are set.
    pub(crate) async fn cors(&self) -> Result<Vec<CorsRule>, Unread> {
        let told = match self.client.get_bucket_cors().bucket(&self.name).send().await {
            Err(error) if error.code() == Some("NoSuchCORSConfiguration") => return Ok(Vec::new()),
            told => told.map_err(unread)?,
        };
        let rule = |rule: aws_sdk_s3::types::CorsRule| CorsRule {
            origins: rule.allowed_origins,
            methods: rule.allowed_methods,
        };
        Ok(told.cors_rules.unwrap_or_default().into_iter().map(rule).collect())
    }

    /// Whom it tells of what.
    pub(crate) async fn routes(&self) -> Result<Vec<Route>, Unread> {
        let told =
            self.client.get_bucket_notification_configuration().bucket(&self.name).send().await.map_err(unread)?;
        let mut routes = Vec::new();
        for one in told.queue_configurations.unwrap_or_default() {
            routes.push(route(Receiver::Queue(one.queue_arn), one.events, one.filter));
        }
        for one in told.topic_configurations.unwrap_or_default() {
            routes.push(route(Receiver::Other(one.topic_arn), one.events, one.filter));
        }
        for one in told.lambda_function_configurations.unwrap_or_default() {
            routes.push(route(Receiver::Other(one.lambda_function_arn), one.events, one.filter));
        }
        if told.event_bridge_configuration.is_some() {
            routes.push(route(Receiver::EventBridge, vec![Event::S3ObjectCreated], None));
        }
        Ok(routes)
    }

    /// What it does by itself; none when no rule is enabled.
    pub(crate) async fn rules(&self) -> Result<Vec<Rule>, Unread> {
        let told = match self.client.get_bucket_lifecycle_configuration().bucket(&self.name).send().await {
            Err(error) if error.code() == Some("NoSuchLifecycleConfiguration") => return Ok(Vec::new()),
            told => told.map_err(unread)?,
        };
        let rules = told.rules.unwrap_or_default().into_iter();
        Ok(rules.filter(|rule| rule.status == ExpirationStatus::Enabled).map(rule).collect())
    }
}

/// What an error of the bucket's says about us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The server does not know the credentials, or they do not fit or have ended.
    Credentials(String),
    /// It knows who we are, and does not let us.
    Right(String),
    /// Nobody answered.
    Silence,
    /// Something else.
    Other,
}

/// Codes by which S3 refuses whoever asks, and not what is asked.
const NOT_US: [&str; 6] =
    ["InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "InvalidSecurity", "NotSignedUp"];

/// What is to blame for an error.
pub(crate) fn blame(error: &BucketError) -> Blame {
    let BucketError::Failed { source, .. } = error else { return Blame::Other };
    match source.downcast_ref::<Said>() {
        Some(Said::Denied(said)) if NOT_US.iter().any(|code| said.contains(code)) => Blame::Credentials(said.clone()),
        Some(Said::Denied(said)) => Blame::Right(said.clone()),
        Some(Said::Nothing(_)) => Blame::Silence,
        _ => Blame::Other,
    }
}

fn unread<E>(error: SdkError<E>) -> Unread
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let status = error.raw_response().map(|answer| answer.status().as_u16());
    match (status, error.code()) {
        (Some(401 | 403), _) => Unread::Denied,
        (Some(405 | 501), _) | (_, Some("NotImplemented" | "MethodNotAllowed")) => Unread::Unsupported,
        _ => Unread::Failed(with_causes(&during("look at the settings", "")(error))),
    }
}

fn route(to: Receiver, events: Vec<Event>, filter: Option<NotificationConfigurationFilter>) -> Route {
    let rules = filter.and_then(|filter| filter.key).and_then(|key| key.filter_rules).unwrap_or_default();
    let of = |name: &str| {
        let rule =
            rules.iter().find(|rule| rule.name.as_ref().is_some_and(|had| had.as_str().eq_ignore_ascii_case(name)));
        rule.and_then(|rule| rule.value.clone()).unwrap_or_default()
    };
    let events = events.iter().map(|event| event.as_str().to_owned()).collect();
    Route { to, events, prefix: of("prefix"), suffix: of("suffix") }
}

fn rule(rule: LifecycleRule) -> Rule {
    let (filter, and) = (rule.filter.as_ref(), rule.filter.as_ref().and_then(|filter| filter.and.as_ref()));
    let prefix = filter.and_then(|filter| filter.prefix.clone()).or_else(|| and.and_then(|and| and.prefix.clone()));
    #[expect(deprecated, reason = "rules of before filters still stand in old buckets")]
    let prefix = prefix.or_else(|| rule.prefix.clone());
    let is_for_tags = filter.is_some_and(|filter| filter.tag.is_some())
        || and.is_some_and(|and| and.tags.as_ref().is_some_and(|tags| !tags.is_empty()));
    let expires = |expiration: &aws_sdk_s3::types::LifecycleExpiration| {
        expiration.days.or_else(|| expiration.date.as_ref().map(|_| 0))
    };
    let classes = rule.transitions.iter().flatten().filter_map(|transition| transition.storage_class.as_ref());
    let freezes_into = classes.map(|class| class.as_str()).find(|&class| is_frozen(class)).map(str::to_owned);
    Rule {
        id: rule.id.unwrap_or_default(),
        prefix: prefix.unwrap_or_default(),
        is_for_tags,
        expires_after: rule.expiration.as_ref().and_then(expires),
        freezes_into,
        clears_parts: rule.abort_incomplete_multipart_upload.is_some(),
    }
}

/// Whether objects of the class have to be restored, for hours, before they can be read. (`GLACIER_IR` can be read at once.)
fn is_frozen(class: &str) -> bool {
    matches!(class, "GLACIER" | "DEEP_ARCHIVE")
}
