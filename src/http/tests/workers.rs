//! Who works, as operators see it.

use longshore_jobs::job::Pool;
use longshore_jobs::ledger::workers::{self, Share, Worker};
use serde_json::json;

use crate::http::testing::World;

#[tokio::test]
async fn operators_see_who_works_and_how_fast() {
    let (world, share) = (World::new().await, Share { concurrency: 8, running: 3, per_second: 12.5 });
    let now = world.ctx.now();
    for name in ["one", "two"] {
        let pools = [(Pool::Verify, share)].into_iter().collect();
        let row = Worker { name: name.to_owned(), version: "1.2.3".to_owned(), started_at: now, seen_at: now, pools };
        workers::beat(&world.ctx.db, row).await.unwrap();
    }
    let client = world.client().await;

    let seen = client.get("/api/admin/workers").await.is(200).body;
    let pools = client.get("/api/admin/pools").await.is(200).body;

    let entry = json!({
        "name": "one", "version": "1.2.3", "startedAt": now.to_string(), "seenAt": now.to_string(),
        "pools": [{"pool": "verify", "concurrency": 8, "running": 3, "perSecond": 12.5}],
    });
    assert_eq!(seen["workers"][0], entry);
    assert_eq!(seen["workers"][1]["name"], "two");
    let pool = |name| pools["pools"].as_array().unwrap().iter().find(|pool| pool["pool"] == name).unwrap().clone();
    assert_eq!((&pool("verify")["workers"], &pool("verify")["perSecond"]), (&json!(2), &json!(25.0)));
    assert_eq!((&pool("store")["workers"], &pool("store")["perSecond"]), (&json!(0), &json!(null)));
}
