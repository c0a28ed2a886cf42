//! How the bucket on S3 is set up: for pages, for notices, and what it does by itself. And what time it is there.

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use longshore_jobs::job::{Limits, with_causes};
use longshore_jobs::model::{Timestamp, keys};
use longshore_jobs::outside::Bucket as _;
use reqwest::{Method, Url};

use super::{Finding, Outcome, http_client};
use crate::bucket::s3::settings::{CorsRule, Receiver, Route, Rule, Unread};
use crate::bucket::s3::{OpenError, S3Bucket};
use crate::config::InboxEngine;

const ANSWER: Duration = Duration::from_secs(10);
const SKEW: Duration = Duration::from_secs(60);
/// S3 refuses what is signed by a clock that is further off.
const TOO_MUCH_SKEW: Duration = Duration::from_secs(15 * 60);

/// The bucket does not open.
pub(super) fn unopened(error: &OpenError) -> Outcome {
    let mend = match error {
        OpenError::Credentials(_) => {
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role".to_owned()
        }
        OpenError::NoSuchBucket { bucket } => {
            format!("set bucket_url to a bucket that is there, or make it: `aws s3 mb s3://{bucket}`, or ops/terraform")
        }
        OpenError::OtherRegion { found, .. } => format!("set s3.region = \"{found}\" (LONGSHORE_S3__REGION={found})"),
        OpenError::Address { .. } => "check s3_endpoint, s3.region and the name in bucket_url".to_owned(),
    };
    Outcome::failed(with_causes(error), mend)
}

/// Asks as a browser does before it posts a form from our page, and looks at the clock of whoever answers.
pub(super) async fn look_from_page(bucket: Arc<S3Bucket>, origin: String) -> Vec<Finding> {
    let asked = Timestamp::system_now();
    let preflight = preflight(&bucket.address().url, &origin).await;
    let took = Timestamp::system_now().since(asked);
    let rules = match &preflight {
        Ok(answer) if !answer.allows(&origin) => Some(bucket.cors().await),
        _ => None,
    };
    let clock = match preflight.as_ref().ok().and_then(|answer| answer.date) {
        Some(date) => judge_clock(apart(date, asked).saturating_sub(took + Duration::from_secs(1))),
        None => Outcome::skipped("the server does not tell the time"),
    };
    vec![judge_preflight(preflight, rules, &origin).naming(&bucket.address().bucket).of("cors"), clock.of("s3 clock")]
}

fn apart(one: Timestamp, other: Timestamp) -> Duration {
    one.since(other).max(other.since(one))
}

/// What a browser would learn.
#[derive(Clone, Debug, Default)]
struct Preflight {
    status: u16,
    origin: Option<String>,
    methods: String,
    date: Option<Timestamp>,
}

impl Preflight {
    /// A form is a simple request: that the page may read the answer is all that has to be allowed, and POST if it is named.
    fn allows(&self, origin: &str) -> bool {
        let named = self.origin.as_deref().is_some_and(|allowed| allowed == "*" || allowed == origin);
        let posts =
            self.methods.is_empty() || self.methods.split(',').any(|method| matches!(method.trim(), "POST" | "*"));
        (200..300).contains(&self.status) && named && posts
    }
}

async fn preflight(url: &str, origin: &str) -> Result<Preflight, String> {
    let url: Url = url.parse().map_err(|_| format!("{url} is no URL"))?;
    let client = http_client(&url, ANSWER).map_err(|error| with_causes(&error))?;
    let request =
        client.request(Method::OPTIONS, url).header("origin", origin).header("access-control-request-method", "POST");
    let answer = request.send().await.map_err(|error| with_causes(&error.without_url()))?;
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let date = header("date").and_then(|date| DateTime::parse_from_rfc2822(&date).ok());
    Ok(Preflight {
        status: answer.status().as_u16(),
        origin: header("access-control-allow-origin"),
        methods: header("access-control-allow-methods").unwrap_or_default(),
        date: date.map(|date| Timestamp::from_millis(date.timestamp_millis())),
    })
}

fn judge_preflight(
    preflight: Result<Preflight, String>,
    rules: Option<Result<Vec<CorsRule>, Unread>>,
    origin: &str,
) -> Outcome {
    let answer = match preflight {
        Ok(answer) => answer,
        Err(why) => {
            return Outcome::failed(
                format!("nobody answers where forms are posted to: {why}"),
                "set s3.public_endpoint (else s3_endpoint) to where clients reach S3",
            );
        }
    };
    if answer.allows(origin) {
        return Outcome::ok(format!("pages of {origin} may post"));
    }
    let set = match rules {
        Some(Ok(rules)) if rules.is_empty() => "the bucket has no CORS rules".to_owned(),
        Some(Ok(rules)) => {
            let origins: Vec<_> = rules.iter().flat_map(|rule| rule.origins.clone()).collect();
            let methods: Vec<_> = rules.iter().flat_map(|rule| rule.methods.clone()).collect();
            format!("its CORS rules let {} do {}", origins.join(", "), methods.join(", "))
        }
        Some(Err(Unread::Denied)) => {
            "its CORS rules may not be read (s3:GetBucketCORS would let doctor look)".to_owned()
        }
        _ => format!("the server answers {}", answer.status),
    };
    Outcome::failed(
        format!("browsers may not post from {origin}: {set}"),
        format!(
            "aws s3api put-bucket-cors --bucket NAME --cors-configuration '{{\"CORSRules\":[{{\"AllowedOrigins\":[\"{origin}\"],\
             \"AllowedMethods\":[\"POST\",\"GET\",\"HEAD\"],\"AllowedHeaders\":[\"*\"]}}]}}'\n\
             or allowed_origins in ops/terraform; where pages come from elsewhere, public_url is wrong"
        ),
    )
}

fn judge_clock(apart: Duration) -> Outcome {
    let seen = format!("this machine and the S3 server are {} s apart", apart.as_secs());
    let mend = "set this machine's clock by NTP: `timedatectl set-ntp true`; S3 refuses what is signed 15 minutes off";
    if apart > TOO_MUCH_SKEW {
        return Outcome::failed(seen, mend);
    }
    if apart > SKEW { Outcome::warning(seen, mend) } else { Outcome::ok(seen) }
}

/// Whom the bucket tells. `queue` is the ARN of the queue that we read, where it is known.
pub(super) async fn look_at_routes(bucket: Arc<S3Bucket>, inbox: InboxEngine, queue: Option<String>) -> Outcome {
    if inbox == InboxEngine::None {
        return Outcome::skipped("inbox_url is none: callbacks and the poller have to do");
    }
    match bucket.routes().await {
        Ok(routes) => judge_routes(&routes, &inbox, queue.as_deref()).naming(&bucket.address().bucket),
        Err(unread) => unknown(&unread, "notification", "s3:GetBucketNotification"),
    }
}

fn unknown(unread: &Unread, what: &str, right: &str) -> Outcome {
    match unread {
        Unread::Denied => Outcome::warning(
            format!("its {what} configuration may not be read"),
            format!("{right} on the bucket would let doctor look; the service itself does not need it"),
        ),
        Unread::Unsupported => Outcome::skipped(format!("the server has no {what} configuration")),
        Unread::Failed(why) => {
            Outcome::warning(format!("its {what} configuration could not be read: {why}"), "ask again")
        }
    }
}

fn judge_routes(routes: &[Route], inbox: &InboxEngine, queue: Option<&str>) -> Outcome {
    let InboxEngine::Sqs(url) = inbox else {
        return Outcome::skipped("the server posts its notices: the round trip shows whether they come");
    };
    let ours: Vec<_> = routes.iter().filter(|route| leads_to(route, url, queue)).collect();
    if let Some(route) = ours.iter().find(|route| tells_of_uploads(route)) {
        if !route.prefix.starts_with(keys::STAGING) {
            return Outcome::warning(
                "the bucket tells the queue of our own copies below blobs/ too",
                "set the prefix of the notification's filter to staging/",
            );
        }
        return Outcome::ok("the bucket tells the queue of what is created below staging/");
    }
    if let Some(other) = routes.iter().find(|route| !matches!(route.to, Receiver::Queue(_))) {
        return Outcome::warning(
            format!("the bucket tells {}, and whether that tells the queue is not to be seen here", name_of(&other.to)),
            "the round trip shows whether notices come",
        );
    }
    let detail = match ours.first() {
        Some(route) => format!(
            "the bucket tells the queue of {} of keys like {}*{} only",
            route.events.join(", "),
            route.prefix,
            route.suffix
        ),
        None if routes.is_empty() => "the bucket tells nobody of what lands in it".to_owned(),
        None => {
            let names: Vec<_> = routes.iter().map(|route| name_of(&route.to)).collect();
            format!("the bucket tells another queue than {url}: {}", names.join(", "))
        }
    };
    Outcome::failed(
        detail,
        format!(
            "aws s3api put-bucket-notification-configuration --bucket NAME --notification-configuration \
             '{{\"QueueConfigurations\":[{{\"QueueArn\":\"{}\",\"Events\":[\"s3:ObjectCreated:*\"],\
             \"Filter\":{{\"Key\":{{\"FilterRules\":[{{\"Name\":\"prefix\",\"Value\":\"staging/\"}}]}}}}}}]}}'\n\
             the queue's policy has to let the bucket in (ops/terraform/queue.tf); until then callbacks and the poller do",
            queue.unwrap_or("ARN")
        ),
    )
}

/// Without the ARN of our queue, one of the same name is taken for it.
fn leads_to(route: &Route, url: &Url, queue: Option<&str>) -> bool {
    let Receiver::Queue(arn) = &route.to else { return false };
    let name = url.path_segments().and_then(Iterator::last).unwrap_or_default();
    queue.map_or_else(|| arn.rsplit(':').next() == Some(name), |ours| ours == arn)
}

fn tells_of_uploads(route: &Route) -> bool {
    let of_posts =
        route.events.iter().any(|event| matches!(event.as_str(), "s3:ObjectCreated:*" | "s3:ObjectCreated:Post"));
    of_posts && keys::STAGING.starts_with(&*route.prefix) && route.suffix.is_empty()
}

fn name_of(receiver: &Receiver) -> String {
    match receiver {
        Receiver::Queue(arn) | Receiver::Other(arn) => arn.clone(),
        Receiver::EventBridge => "EventBridge".to_owned(),
    }
}

/// What the bucket deletes by itself.
pub(super) async fn look_at_rules(bucket: Arc<S3Bucket>, limits: Limits) -> Outcome {
    match bucket.rules().await {
        Ok(rules) => judge_rules(&rules, &limits).naming(&bucket.address().bucket),
        Err(unread) => unknown(&unread, "lifecycle", "s3:GetLifecycleConfiguration"),
    }
}

fn judge_rules(rules: &[Rule], limits: &Limits) -> Outcome {
    let of = |part: &'static str| rules.iter().filter(move |rule| !rule.is_for_tags && touches(rule, part));
    let mend = |rule: &Rule, what: &str| {
        let id = if rule.id.is_empty() { "without a name" } else { &rule.id };
        format!("take the rule {id} away, or {what}: `aws s3api get-bucket-lifecycle-configuration --bucket NAME`")
    };
    if let Some(rule) = of(keys::BLOBS).find(|rule| rule.expires_after.is_some()) {
        return Outcome::failed(
            format!(
                "a lifecycle rule deletes files: what is below blobs/, after {} days",
                rule.expires_after.unwrap_or(0)
            ),
            mend(rule, "let its filter begin with staging/"),
        );
    }
    if let Some(rule) = of(keys::BLOBS).chain(of(keys::STAGING)).find(|rule| rule.freezes_into.is_some()) {
        return Outcome::failed(
            format!(
                "a lifecycle rule moves files to {}, where they cannot be read",
                rule.freezes_into.as_deref().unwrap_or("")
            ),
            mend(rule, "let it move them to GLACIER_IR or STANDARD_IA"),
        );
    }
    let needed = needed_days(limits);
    if let Some(rule) = of(keys::STAGING).find(|rule| rule.expires_after.is_some_and(|days| days < needed)) {
        return Outcome::failed(
            format!(
                "a lifecycle rule deletes what is below staging/ after {} days, while it may still be needed",
                rule.expires_after.unwrap_or(0)
            ),
            mend(rule, &format!("let it wait for {} days", needed.max(7))),
        );
    }
    if !rules.iter().any(|rule| rule.clears_parts && rule.prefix.is_empty()) {
        return Outcome::warning(
            "no lifecycle rule clears away parts of puts that were broken off: nobody sees them, and they cost",
            "add a rule with AbortIncompleteMultipartUpload after 2 days for the whole bucket: ops/terraform/bucket.tf",
        );
    }
    Outcome::ok("no rule deletes what is needed, and broken-off puts are cleared away")
}

fn touches(rule: &Rule, part: &str) -> bool {
    part.starts_with(&*rule.prefix) || rule.prefix.starts_with(part)
}

/// Days for which an object in staging may be needed: by its upload until that expires, and until the sweep takes it.
fn needed_days(limits: &Limits) -> i32 {
    let longest = longshore_jobs::model::upload::policy_life(limits.policy_life, Some(limits.max_size));
    let needed = (longest + limits.expiry_grace + limits.sweep_min_age).as_secs().div_ceil(24 * 3600);
    i32::try_from(needed).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Status;
    use super::*;

    const ORIGIN: &str = "https://uploads.example.com";
    const ARN: &str = "arn:aws:sqs:eu-west-1:111122223333:notices";

    fn status(outcome: Outcome) -> Status {
        outcome.of("x").status()
    }

    fn answer(origin: Option<&str>, methods: &str) -> Preflight {
        Preflight { status: 200, origin: origin.map(str::to_owned), methods: methods.to_owned(), date: None }
    }

    #[test]
    fn a_page_may_post_when_its_origin_is_named() {
        for (answer, expected) in [
            (answer(Some("*"), "GET, POST"), Status::Ok),
            (answer(Some(ORIGIN), "POST"), Status::Ok),
            (answer(Some("https://elsewhere.example.com"), "POST"), Status::Failed),
            (answer(Some("*"), "GET"), Status::Failed),
            (answer(None, ""), Status::Failed),
            (Preflight { status: 403, ..answer(Some("*"), "POST") }, Status::Failed),
        ] {
            assert_eq!(status(judge_preflight(Ok(answer.clone()), Some(Ok(vec![])), ORIGIN)), expected, "{answer:?}");
        }
        assert_eq!(status(judge_preflight(Err("refused".to_owned()), None, ORIGIN)), Status::Failed);
    }

    fn inbox() -> InboxEngine {
        InboxEngine::Sqs("https://sqs.eu-west-1.amazonaws.com/111122223333/notices".parse().unwrap())
    }

    fn route() -> Route {
        Route {
            to: Receiver::Queue(ARN.to_owned()),
            events: vec!["s3:ObjectCreated:*".to_owned()],
            prefix: "staging/".to_owned(),
            suffix: String::new(),
        }
    }

    #[test]
    fn the_bucket_has_to_tell_our_queue_of_posts_below_staging() {
        let judge = |route: Route| status(judge_routes(&[route], &inbox(), Some(ARN)));
        assert_eq!(judge(route()), Status::Ok);
        assert_eq!(judge(Route { prefix: String::new(), ..route() }), Status::Warning);
        assert_eq!(judge(Route { to: Receiver::EventBridge, ..route() }), Status::Warning);
        assert_eq!(judge(Route { prefix: "uploads/".to_owned(), ..route() }), Status::Failed);
        assert_eq!(judge(Route { suffix: ".jpg".to_owned(), ..route() }), Status::Failed);
        assert_eq!(judge(Route { events: vec!["s3:ObjectCreated:Put".to_owned()], ..route() }), Status::Failed);
        assert_eq!(judge(Route { to: Receiver::Queue(format!("{ARN}-old")), ..route() }), Status::Failed);

        assert_eq!(status(judge_routes(&[], &inbox(), None)), Status::Failed);
        assert_eq!(status(judge_routes(&[route()], &inbox(), None)), Status::Ok, "by its name");
        assert_eq!(status(judge_routes(&[], &InboxEngine::Webhook, None)), Status::Skipped);
    }

    #[test]
    fn what_may_not_be_read_is_told_with_the_right_that_is_missing() {
        let Outcome::Warning(trouble) = unknown(&Unread::Denied, "lifecycle", "s3:GetLifecycleConfiguration") else {
            panic!("a warning")
        };
        assert!(trouble.mend.contains("s3:GetLifecycleConfiguration"));
        assert_eq!(status(unknown(&Unread::Unsupported, "lifecycle", "")), Status::Skipped);
    }

    #[test]
    fn no_rule_may_delete_what_is_needed() {
        let parts = Rule { clears_parts: true, ..Rule::default() };
        let expiring =
            |prefix: &str, days| Rule { prefix: prefix.to_owned(), expires_after: Some(days), ..Rule::default() };
        let judge = |rule: Rule| status(judge_rules(&[parts.clone(), rule], &Limits::default()));

        assert_eq!(judge(expiring("staging/", 30)), Status::Ok);
        assert_eq!(judge(expiring("staging/", 1)), Status::Failed);
        assert_eq!(judge(expiring("", 365)), Status::Failed, "the whole bucket");
        assert_eq!(judge(expiring("blobs/0", 365)), Status::Failed);
        assert_eq!(judge(Rule { is_for_tags: true, ..expiring("", 1) }), Status::Ok);
        let freezing = Rule { freezes_into: Some("GLACIER".to_owned()), ..Rule::default() };
        assert_eq!(judge(freezing.clone()), Status::Failed);
        assert_eq!(judge(Rule { is_for_tags: true, ..freezing }), Status::Ok);
        assert_eq!(status(judge_rules(&[expiring("staging/", 30)], &Limits::default())), Status::Warning);
    }

    #[test]
    fn the_clock_of_s3_is_not_far_from_ours() {
        for (seconds, expected) in [(3, Status::Ok), (61, Status::Warning), (1000, Status::Failed)] {
            assert_eq!(status(judge_clock(Duration::from_secs(seconds))), expected);
        }
    }
}
