//! Where notices come from.

use std::collections::HashMap;

use longshore_jobs::job::with_causes;
use tokio::time::timeout;
use url::Url;

use super::{KNOCKING, Outcome, silent, told};
use crate::app::sqs_options;
use crate::config::{BucketEngine, Config, InboxEngine};
use crate::inbox::InboxError;
use crate::inbox::sqs::SqsInbox;

/// So many notices that wait are more than receivers lag behind by.
const MANY: u64 = 10_000;
const DAY: u64 = 24 * 3600;

/// The queue's attributes by their names in the API.
type Attributes = HashMap<String, String>;

/// How the inbox is, and the ARN of its queue where it has one that tells it.
pub(super) async fn look(config: &Config) -> (Outcome, Option<String>) {
    let outcome = match &config.inbox {
        InboxEngine::Local => Outcome::ok("the local bucket tells the process that serves it"),
        InboxEngine::Webhook => Outcome::ok("a secret is set; the S3 server has to post to /api/notices with it"),
        InboxEngine::None => unwanted(config),
        InboxEngine::Sqs(queue) => return look_at_queue(config, queue).await,
    };
    (outcome, None)
}

/// Nobody tells of uploads. What can tell depends on the bucket.
fn unwanted(config: &Config) -> Outcome {
    let mend = match &config.bucket {
        BucketEngine::Folder(_) => "set inbox_url to local:, which tells of each post at once",
        BucketEngine::S3(_) => "set inbox_url to sqs+https://… or webhook:, unless every client calls back",
    };
    Outcome::warning(
        format!(
            "inbox_url is none: an upload is noticed by its callback, or by the poller, which looks {} after it is handed out, \
             ten minutes later, and when its policy ends",
            told(config.limits.first_poll)
        ),
        mend,
    )
}

async fn look_at_queue(config: &Config, queue: &Url) -> (Outcome, Option<String>) {
    let options = sqs_options(config, queue);
    let asked = tokio::spawn(async move { Box::pin(SqsInbox::attributes(options)).await });
    match timeout(KNOCKING, asked).await {
        Ok(Ok(Ok(attributes))) => (judge_queue(&attributes, queue), attributes.get("QueueArn").cloned()),
        Ok(Ok(Err(error))) => (unreachable(queue, &error), None),
        Ok(Err(_)) | Err(_) => (silent(KNOCKING), None),
    }
}

fn unreachable(queue: &Url, error: &InboxError) -> Outcome {
    // What the SDK says behind the code and its message says both again.
    let told = match error {
        InboxError::Refused { source, .. } => format!("{error}: {source}"),
        _ => with_causes(error),
    };
    let says = |words: &[&str]| words.iter().any(|word| told.contains(word));
    let mend = if says(&["NonExistentQueue", "QueueDoesNotExist"]) {
        "set inbox_url to sqs+ and the URL of a queue that is there: `aws sqs list-queues`; ops/terraform makes one"
            .to_owned()
    } else if says(&["InvalidClientTokenId", "SignatureDoesNotMatch", "ExpiredToken"]) {
        "give the process the right credentials: AWS_ACCESS_KEY_ID with its AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            .to_owned()
    } else if says(&["no credentials found"]) {
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role".to_owned()
    } else if matches!(error, InboxError::Refused { .. }) {
        "allow sqs:ReceiveMessage, sqs:DeleteMessage, sqs:ChangeMessageVisibility and sqs:GetQueueAttributes on the queue \
         to the role of this process, and see that its credentials are right"
            .to_owned()
    } else {
        "see that inbox_url leads to SQS from here, and sqs.region".to_owned()
    };
    Outcome::failed(format!("{queue}: {told}"), mend)
}

fn judge_queue(attributes: &Attributes, queue: &Url) -> Outcome {
    let number = |name: &str| attributes.get(name).and_then(|text| text.parse::<u64>().ok());
    let (waiting, hidden) = (
        number("ApproximateNumberOfMessages").unwrap_or(0),
        number("ApproximateNumberOfMessagesNotVisible").unwrap_or(0),
    );
    let retention = number("MessageRetentionPeriod");
    let kept = retention.map_or_else(String::new, |seconds| format!(", kept for {} days", seconds / DAY));
    let seen = format!("the queue answers: {waiting} notices wait, {hidden} are being dealt with{kept}");
    if attributes.get("RedrivePolicy").is_none_or(|policy| !policy.contains("deadLetterTargetArn")) {
        return Outcome::warning(
            format!("{seen}; it has no dead-letter queue: a notice that cannot be read comes again and again"),
            format!(
                "aws sqs set-queue-attributes --queue-url {queue} --attributes \
                 '{{\"RedrivePolicy\":\"{{\\\"deadLetterTargetArn\\\":\\\"ARN\\\",\\\"maxReceiveCount\\\":\\\"10\\\"}}\"}}'\n\
                 with the ARN of another queue; ops/terraform/queue.tf makes both"
            ),
        );
    }
    if retention.is_some_and(|seconds| seconds < DAY) {
        return Outcome::warning(
            format!("{seen}: an outage of a day loses notices"),
            format!("aws sqs set-queue-attributes --queue-url {queue} --attributes MessageRetentionPeriod=345600"),
        );
    }
    if waiting >= MANY {
        return Outcome::warning(
            format!("{seen}: nobody receives, or not fast enough"),
            "see that an intake runs (`longshore intake`, or `up`), its log, and sqs.receivers",
        );
    }
    Outcome::ok(seen)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Status;
    use super::*;

    fn with(name: &str, value: &str) -> Status {
        let mut attributes: Attributes = [
            ("ApproximateNumberOfMessages", "3"),
            ("MessageRetentionPeriod", "345600"),
            ("RedrivePolicy", r#"{"deadLetterTargetArn":"arn:aws:sqs:x:1:dead","maxReceiveCount":10}"#),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        attributes.insert(name.to_owned(), value.to_owned());
        let queue = "https://sqs.eu-west-1.amazonaws.com/1/notices".parse().unwrap();
        judge_queue(&attributes, &queue).of("inbox").status()
    }

    #[test]
    fn a_queue_keeps_what_cannot_be_read_apart_and_the_rest_for_days() {
        assert_eq!(with("VisibilityTimeout", "60"), Status::Ok);
        assert_eq!(with("RedrivePolicy", ""), Status::Warning);
        assert_eq!(with("MessageRetentionPeriod", "3600"), Status::Warning);
        assert_eq!(with("ApproximateNumberOfMessages", "50000"), Status::Warning);
    }

    #[test]
    fn what_may_tell_of_uploads_fits_the_bucket() {
        let configured = Config::load(crate::config::Layered::default()).unwrap();
        let mend = |bucket: BucketEngine| {
            let Outcome::Warning(trouble) = unwanted(&Config { bucket, ..configured.clone() }) else {
                panic!("a warning")
            };
            trouble.mend
        };
        assert!(mend(BucketEngine::Folder("data/bucket".into())).contains("local:"));
        assert!(mend(BucketEngine::S3("acme".into())).contains("sqs+"));
    }

    #[test]
    fn a_queue_that_is_not_there_is_told_from_one_that_refuses() {
        let queue: Url = "https://sqs.eu-west-1.amazonaws.com/1/notices".parse().unwrap();
        let mend = |said: &'static str| {
            let error = InboxError::Refused { op: "look at the queue", source: said.into() };
            let Outcome::Failed(trouble) = unreachable(&queue, &error) else { panic!("failed") };
            trouble.mend
        };
        assert!(mend("AWS.SimpleQueueService.NonExistentQueue").contains("list-queues"));
        assert!(mend("SignatureDoesNotMatch").contains("AWS_SECRET_ACCESS_KEY"));
        assert!(mend("AccessDenied").contains("sqs:GetQueueAttributes"));
    }
}
