//! The console's first page, as a browser loads it: the page, what it names, what that names in turn, and the first answer.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use longshore_jobs::outside::BoxError;
use reqwest::Client;
use url::Url;

use super::OwnServer;

/// From the first request to the last answer.
pub(super) async fn first_page(client: &Client, server: &OwnServer) -> Result<Duration, BoxError> {
    let (base, started) = (Url::parse(&server.url)?, Instant::now());
    let page = base.join("/console")?;
    let mut loaded = HashSet::from([page.clone()]);
    let mut wave = named(&page, &load(client, page.clone()).await?)?;
    while !wave.is_empty() {
        wave.retain(|url| loaded.insert(url.clone()));
        let texts = try_join_all(wave.iter().map(|url| load(client, url.clone()))).await?;
        let next = wave.iter().zip(&texts).map(|(url, text)| named(url, text)).collect::<Result<Vec<_>, _>>()?;
        wave = next.into_iter().flatten().collect();
    }
    let overview = client.get(base.join("/api/admin/overview")?).bearer_auth(&server.token);
    overview.send().await?.error_for_status()?.bytes().await?;
    Ok(started.elapsed())
}

async fn load(client: &Client, url: Url) -> Result<String, reqwest::Error> {
    client.get(url).send().await?.error_for_status()?.text().await
}

/// The style sheets and scripts that a page or a script names.
fn named(at: &Url, text: &str) -> Result<Vec<Url>, url::ParseError> {
    let quoted = text.split('"').skip(1).step_by(2);
    let mut names: Vec<&str> = quoted.filter(|name| name.ends_with(".css") || name.ends_with(".js")).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(|name| at.join(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_page_names_is_found_from_where_the_page_is() {
        let page = Url::parse("http://127.0.0.1/console").unwrap();
        let html = r#"<link href="page.css"><script type="module" src="console/app.js"></script>"#;
        let script = "import { tell } from \"./parts.js\";\nshow(\"a.b\");";

        let names = named(&page, html).unwrap();
        assert_eq!(names.iter().map(Url::path).collect::<Vec<_>>(), ["/console/app.js", "/page.css"]);
        let names = named(&names[0], script).unwrap();
        assert_eq!(names.iter().map(Url::path).collect::<Vec<_>>(), ["/console/parts.js"]);
    }
}
