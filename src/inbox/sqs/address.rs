//! What a queue's URL says: the SDK wants region and endpoint beside it and takes neither from it.

use url::Url;

use super::Options;
use crate::inbox::InboxError;

/// Where requests go and for which region they are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// `None`: by the SDK's chain.
    pub(super) region: Option<String>,
    /// `None`: AWS's own of the region.
    pub(super) endpoint: Option<String>,
}

impl Address {
    /// What the options say goes before what the URL says.
    pub(super) fn of(options: &Options) -> Result<Self, InboxError> {
        let queue =
            queue_url(&options.queue_url).ok_or_else(|| InboxError::Address { url: options.queue_url.clone() })?;
        let aws = aws_region(&queue);
        let own_server = aws.is_none().then(|| queue.origin().ascii_serialization());
        Ok(Self {
            endpoint: options.endpoint.as_ref().map(Url::to_string).or(own_server),
            region: options.region.clone().or_else(|| aws.map(str::to_owned)),
        })
    }
}

fn queue_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let names_a_queue = matches!(url.scheme(), "http" | "https") && url.has_host() && url.path().len() > 1;
    names_a_queue.then_some(url)
}

/// The region in `sqs.<region>.amazonaws.com`; `None` for every other host, an endpoint within a private network among them.
fn aws_region(queue: &Url) -> Option<&str> {
    let behind = queue.host_str()?.strip_prefix("sqs.")?;
    let region = behind.strip_suffix(".amazonaws.com").or_else(|| behind.strip_suffix(".amazonaws.com.cn"))?;
    (!region.contains('.')).then_some(region)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(queue_url: &str) -> (Option<String>, Option<String>) {
        let Address { region, endpoint } = Address::of(&Options::new(queue_url)).unwrap();
        (region, endpoint)
    }

    #[test]
    fn a_queue_of_aws_tells_its_region_and_any_other_its_server() {
        for (url, region) in [
            ("https://sqs.eu-north-1.amazonaws.com/123456789012/notices", "eu-north-1"),
            ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/notices", "cn-north-1"),
        ] {
            assert_eq!(address(url), (Some(region.to_owned()), None));
        }
        for (url, endpoint) in [
            ("http://127.0.0.1:4566/000000000000/notices", "http://127.0.0.1:4566"),
            (
                "https://vpce-1.sqs.eu-north-1.vpce.amazonaws.com/1/n",
                "https://vpce-1.sqs.eu-north-1.vpce.amazonaws.com",
            ),
            ("https://sqs.example.org:9324/queue/notices", "https://sqs.example.org:9324"),
        ] {
            assert_eq!(address(url), (None, Some(endpoint.to_owned())));
        }
    }

    #[test]
    fn what_is_said_beside_the_url_goes_before_it() {
        let options = Options {
            region: Some("eu-west-1".to_owned()),
            endpoint: Some("http://localhost:1".parse().unwrap()),
            ..Options::new("https://sqs.eu-north-1.amazonaws.com/1/n")
        };
        let expected =
            Address { region: Some("eu-west-1".to_owned()), endpoint: Some("http://localhost:1/".to_owned()) };
        assert_eq!(Address::of(&options).unwrap(), expected);
    }

    #[test]
    fn what_names_no_queue_is_refused() {
        for url in ["", "notices", "https://", "ftp://sqs.eu-north-1.amazonaws.com/1/n", "https://sqs.example.org/"] {
            assert!(matches!(Address::of(&Options::new(url)), Err(InboxError::Address { .. })), "{url}");
        }
    }
}
