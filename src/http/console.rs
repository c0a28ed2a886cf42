//! The operator's console: modules in the binary, as they are written. It asks `/api/admin`, and shows what it hears as text.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Redirect;
use axum::routing::get;

use super::{Http, page};

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// What the page loads, by path; its colours and buttons come from the upload page's `/page.css`.
const FILES: &[(&str, &str, &str)] = &[
    ("/console", "text/html; charset=utf-8", include_str!("console/index.html")),
    ("/console/console.css", "text/css; charset=utf-8", include_str!("console/console.css")),
    ("/console/acts.js", SCRIPT, include_str!("console/acts.js")),
    ("/console/api.js", SCRIPT, include_str!("console/api.js")),
    ("/console/app.js", SCRIPT, include_str!("console/app.js")),
    ("/console/concerns.js", SCRIPT, include_str!("console/concerns.js")),
    ("/console/letter.js", SCRIPT, include_str!("console/letter.js")),
    ("/console/letters.js", SCRIPT, include_str!("console/letters.js")),
    ("/console/live.js", SCRIPT, include_str!("console/live.js")),
    ("/console/org_choice.js", SCRIPT, include_str!("console/org_choice.js")),
    ("/console/orgs.js", SCRIPT, include_str!("console/orgs.js")),
    ("/console/overview.js", SCRIPT, include_str!("console/overview.js")),
    ("/console/parts.js", SCRIPT, include_str!("console/parts.js")),
    ("/console/question.js", SCRIPT, include_str!("console/question.js")),
    ("/console/search.js", SCRIPT, include_str!("console/search.js")),
    ("/console/tree.js", SCRIPT, include_str!("console/tree.js")),
    ("/console/units.js", SCRIPT, include_str!("console/units.js")),
    ("/console/upload.js", SCRIPT, include_str!("console/upload.js")),
    ("/console/uploads.js", SCRIPT, include_str!("console/uploads.js")),
    ("/console/workers.js", SCRIPT, include_str!("console/workers.js")),
];

/// `/console` and what it loads. It is shown to anybody: nothing is in it before a token is typed.
pub fn routes() -> Router<Arc<Http>> {
    let slashed = Router::new().route("/console/", get(async || Redirect::permanent("../console")));
    FILES.iter().fold(slashed, |routes, &(path, media_type, text)| {
        routes.route(path, get(async move |State(http): State<Arc<Http>>| page::serve(&http, media_type, text)))
    })
}

/// Where it is served.
#[cfg(test)]
pub fn paths() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(path, ..)| *path).chain(["/console/"])
}

#[cfg(test)]
mod tests {
    use longshore_jobs::job::Pool;

    use super::super::testing::World;
    use super::*;

    #[tokio::test]
    async fn every_file_of_the_folder_is_served_under_the_policy_of_pages() {
        let world = World::new().await;
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/console");

        for entry in std::fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let path = if name == "index.html" { "/console".to_owned() } else { format!("/console/{name}") };
            let reply = world.nobody().get(&path).await.is(200);

            assert!(reply.header("content-security-policy").contains("script-src 'self'; style-src 'self'"), "{path}");
        }
        assert_eq!(world.nobody().get("/console/").await.is(308).header("location"), "../console");
    }

    #[test]
    fn data_never_becomes_markup_or_code() {
        let banned =
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "localStorage", "cookie ="];
        for (path, _, text) in FILES {
            for word in banned {
                assert!(!text.contains(word), "{path} has {word}");
            }
        }
    }

    #[test]
    fn pools_to_choose_from_are_all_there_are() {
        let pools: Vec<_> = Pool::ALL.iter().map(|pool| format!("\"{pool}\"")).collect();

        assert!(include_str!("console/letters.js").contains(&format!("const POOLS = [{}];", pools.join(", "))));
    }

    #[test]
    fn modules_import_only_what_is_served() {
        for (path, _, text) in FILES.iter().filter(|(_, media_type, _)| *media_type == SCRIPT) {
            for imported in text.lines().filter_map(|line| line.strip_prefix("import ")?.split('"').nth(1)) {
                let name = imported.strip_prefix("./").expect("nothing comes from elsewhere");
                assert!(
                    FILES.iter().any(|(served, ..)| *served == format!("/console/{name}")),
                    "{path} imports {name}"
                );
            }
        }
    }
}
