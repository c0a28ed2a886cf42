//! Pools over HTTP: pause and resume, also while the queue is away.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use longshore_jobs::ledger::Db;
use longshore_jobs::noop::Noop;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{letters, operator};
use crate::http::testing::World;
use crate::http::{Http, Settings, router};
use crate::queue::sql::SqlQueue;

#[tokio::test]
async fn a_pool_is_paused_and_resumed_any_number_of_times() {
    let world = World::new().await;
    let operator = operator(&world).await;
    let turn = async |way: &str| {
        let reply = operator.call("POST", &format!("/api/admin/pools/store/{way}")).await.is(200);
        assert_eq!(reply.body["pools"].as_array().unwrap().len(), 1);
        reply.body["pools"][0].clone()
    };

    let first = turn("pause").await;
    world.clock.turn(Duration::from_secs(60));
    let again = turn("pause").await;
    let listed = operator.get("/api/admin/pools").await.is(200);
    let resumed = turn("resume").await;

    assert_eq!(
        (&first["pool"], &first["paused"], &first["pausedAt"]),
        (&json!("store"), &json!(true), &again["pausedAt"])
    );
    let all = listed.body["pools"].as_array().unwrap();
    assert_eq!(all.iter().filter(|pool| pool["paused"] == true).count(), 1);
    assert_eq!(all.len(), 6);
    assert_eq!(turn("resume").await, resumed);
    assert_eq!((&resumed["paused"], &resumed["pausedAt"]), (&json!(false), &Value::Null));
}

/// A door behind which the queue that operators look at is away.
async fn without_queue() -> World {
    let (mut world, folder) = (World::new().await, tempfile::tempdir().unwrap());
    let gone = Db::open_sqlite(&folder.path().join("queue.db")).await.unwrap();
    gone.close().await;
    world.engine = Arc::new(SqlQueue::new(gone, world.clock.clone()));
    world.app = router(Http::new(world.ctx.clone(), Settings::default(), world.operations()), Router::new());
    world
}

#[tokio::test]
async fn a_pool_is_paused_and_resumed_while_the_queue_is_away() {
    let world = without_queue().await;
    let operator = operator(&world).await;
    letters::keep(&world, &letters::letter(Noop::new(Uuid::now_v7()))).await;

    let paused = operator.post("/api/admin/pools/upkeep/pause", Value::Null).await.is(200);
    let listed = operator.get("/api/admin/pools").await.is(200);
    let overview = operator.get("/api/admin/overview").await.is(200);
    let resumed = operator.post("/api/admin/pools/upkeep/resume", Value::Null).await.is(200);

    let entry = |paused_at: &Value| {
        json!({
            "pool": "upkeep", "paused": paused_at.is_string(), "pausedAt": paused_at, "waiting": null, "due": null,
            "running": null, "dead": 1, "oldestAgeSeconds": null, "perSecond": null, "workers": 0,
        })
    };
    let paused_at = paused.body["pools"][0]["pausedAt"].clone();
    assert!(paused_at.is_string());
    assert_eq!(paused.body["pools"], json!([entry(&paused_at)]));
    assert_eq!(resumed.body["pools"], json!([entry(&Value::Null)]));
    assert_eq!(overview.body["overview"][0]["pools"], listed.body["pools"]);
    let all = listed.body["pools"].as_array().unwrap();
    assert_eq!((all.len(), &all[5]), (6, &entry(&paused_at)));
    assert!(all.iter().all(|pool| pool["waiting"].is_null() && pool["paused"] == (pool["pool"] == "upkeep")));
}
