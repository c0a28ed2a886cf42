//! `longshore health`: one question to a process that runs, once, for whoever has neither a shell nor `curl`.

use std::time::Duration;

use clap::Args;
use reqwest::{Client, Url};

use super::{Failure, say};
use crate::client::choose_cryptography;
use crate::config::{Config, parse_duration, reachable};

#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    /// What to ask; default: /livez where the settings say that this machine listens.
    #[arg(long, value_name = "URL")]
    pub(super) url: Option<Url>,
    /// How long the answer may take.
    #[arg(long, default_value = "4s", value_parser = parse_duration, value_name = "TIME")]
    pub(super) timeout: Duration,
}

pub(super) async fn run(config: &Config, args: HealthArgs) -> Result<(), Failure> {
    let url = match args.url {
        Some(url) if url.scheme() == "http" => url,
        Some(url) => return Err(Failure::usage(format!("{url} is not a URL over plain HTTP")).hint(HINT)),
        None => here(config)?,
    };
    let unhealthy = || Failure::new(format!("{url} does not answer as it should"));
    let answer = ask(&url, args.timeout).await.map_err(|error| unhealthy().because(&error.without_url()))?;
    if !answer.is_success() {
        return Err(unhealthy().because(&std::io::Error::other(answer.to_string())));
    }
    say(format_args!("{answer}\n"));
    Ok(())
}

const HINT: &str = "write for example --url http://127.0.0.1:9100/livez";

fn here(config: &Config) -> Result<Url, Failure> {
    let address = reachable(config.listen);
    if address.port() == 0 {
        return Err(Failure::usage("no settings say at which port it listens").hint(HINT));
    }
    format!("http://{address}/livez").parse().map_err(|error| Failure::new("no address to ask").because(&error))
}

/// One try, past any proxy: whoever asks asks again.
async fn ask(url: &Url, patience: Duration) -> reqwest::Result<reqwest::StatusCode> {
    choose_cryptography();
    let client = Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .timeout(patience)
        .build()?;
    Ok(client.get(url.clone()).send().await?.status())
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use http::StatusCode;
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::Layered;

    fn config(listen: &str) -> Config {
        let flags = vec![("listen".to_owned(), listen.to_owned())];
        Config::load(Layered { flags, ..Layered::default() }).unwrap()
    }

    async fn asked(config: &Config, url: Option<String>) -> Result<(), Failure> {
        let args = HealthArgs { url: url.map(|url| url.parse().unwrap()), timeout: Duration::from_secs(20) };
        run(config, args).await
    }

    #[tokio::test]
    async fn a_process_is_well_only_if_it_answers_with_a_success() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let routes = Router::new()
            .route("/livez", get(async || "ok"))
            .route("/readyz", get(async || StatusCode::SERVICE_UNAVAILABLE));
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await });
        // An address for all interfaces is asked on this machine's own.
        let config = config(&format!("0.0.0.0:{port}"));

        asked(&config, None).await.unwrap();
        let down = asked(&config, Some(format!("http://127.0.0.1:{port}/readyz"))).await.unwrap_err().to_string();
        assert!(down.contains("503"), "{down}");

        serving.abort();
        assert!(serving.await.unwrap_err().is_cancelled());
        assert!(asked(&config, None).await.is_err(), "nobody is there");
    }

    #[tokio::test]
    async fn without_an_address_it_says_what_to_write() {
        assert!(asked(&config("127.0.0.1:0"), None).await.unwrap_err().to_string().contains("--url http://"));
        let https = asked(&config("127.0.0.1:1"), Some("https://127.0.0.1/livez".to_owned())).await.unwrap_err();
        assert!(https.to_string().contains("plain HTTP"), "{https}");
    }
}
