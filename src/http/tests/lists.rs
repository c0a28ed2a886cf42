//! Lists of uploads: in parts that stay right while others add, and by every filter.

use longshore_jobs::ledger::{batches, uploads};
use longshore_jobs::model::org::Scope;
use longshore_jobs::model::{Batch, Status, Upload};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::http::testing::{Client, Reply, World};

fn names(reply: &Reply) -> Vec<&str> {
    let entries = reply.body["uploads"].as_array().unwrap();
    entries.iter().map(|entry| entry["filename"].as_str().unwrap()).collect()
}

async fn create(client: &Client<'_>, body: Value) -> Uuid {
    let reply = client.post("/api/uploads", body).await.is(201);
    reply.upload()["id"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn uploads_are_listed_in_parts_that_stay_right_while_others_add() {
    let world = World::new().await;
    let client = world.client().await;
    for number in 0..5 {
        create(&client, json!({ "filename": format!("{number}.txt") })).await;
    }

    let first = client.get("/api/uploads?perPage=2").await.is(200);
    create(&client, json!({ "filename": "late.txt" })).await;
    let next = first.body["next"].as_str().unwrap();
    let second = client.get(&format!("/api/uploads?perPage=2&after={next}")).await.is(200);
    let next = second.body["next"].as_str().unwrap();
    let last = client.get(&format!("/api/uploads?perPage=2&after={next}")).await.is(200);

    assert_eq!((names(&first), names(&second)), (vec!["4.txt", "3.txt"], vec!["2.txt", "1.txt"]));
    assert_eq!((names(&last), &last.body["next"]), (vec!["0.txt"], &json!(null)));
    assert_eq!((&first.body["count"], &last.body["count"]), (&json!(5), &json!(6)));
    assert_eq!((&first.body["countCapped"], &first.body["sort"]), (&json!(false), &json!("-createdAt")));
    let oldest = client.get("/api/uploads?perPage=2&page=2&sort=createdAt").await.is(200);
    assert_eq!((names(&oldest), &oldest.body["page"]), (vec!["2.txt", "3.txt"], &json!(2)));
    assert_eq!(client.get("/api/uploads?perPage=1000").await.body["perPage"], 100);
}

#[tokio::test]
async fn uploads_are_filtered() {
    let world = World::new().await;
    let client = world.client().await;
    create(&client, json!({ "filename": "plain" })).await;
    let ordered =
        create(&client, json!({ "filename": "a", "target": {"kind": "order", "number": "7"}, "ref": "r" })).await;
    uploads::cancel(&world.ctx.db, ordered, world.ctx.now()).await.unwrap();
    create(&client, json!({ "filename": "b", "target": {"kind": "style", "number": "7"}, "ref": "r" })).await;
    let seen = uploads::find(&world.ctx.db, ordered).await.unwrap().unwrap();
    let batch = Batch::each((seen.org_id, seen.user_id), None, 1, world.ctx.now());
    let id = batch.id;
    batches::insert(&world.ctx.db, batch, Vec::new(), None).await.unwrap();
    let member = Upload::requested(seen.org_id, seen.user_id, "member".to_owned(), world.ctx.now());
    uploads::insert(&world.ctx.db, vec![Upload { batch_id: Some(id), ..member }]).await.unwrap();

    let of_batch = format!("batch={id}");
    let nobodys = format!("batch={}", Uuid::now_v7());
    for (query, expected) in [
        ("", &["member", "b", "a", "plain"][..]),
        ("status=cancelled", &["a"]),
        ("status=issued", &["b", "plain"]),
        ("status=requested", &["member"]),
        ("status=done", &[]),
        ("target=order", &["a"]),
        ("number=7", &["b", "a"]),
        ("target=style&number=7", &["b"]),
        ("target=style&number=8", &[]),
        ("ref=r", &["b", "a"]),
        ("ref=r&status=cancelled", &["a"]),
        ("ref=unknown", &[]),
        (of_batch.as_str(), &["member"]),
        (nobodys.as_str(), &[]),
    ] {
        let reply = client.get(&format!("/api/uploads?{query}")).await.is(200);
        assert_eq!(names(&reply), expected, "{query}");
        assert_eq!(reply.body["count"], expected.len(), "{query}");
    }
    assert_eq!(seen.status, Status::Cancelled);
}

#[tokio::test]
async fn a_filter_that_will_not_do_is_named() {
    let world = World::new().await;
    let client = world.client().await;
    for (query, name) in [
        ("status=lost", "status"),
        ("target=shelf", "target"),
        ("batch=7", "batch"),
        ("after=7", "after"),
        ("sort=size", "sort"),
        ("page=0", "page"),
        ("perPage=no", "perPage"),
        ("ref=%00", "ref"),
    ] {
        let refused = client.get(&format!("/api/uploads?{query}")).await.is(422);
        assert!(refused.error().3.contains(&format!("`{name}`")), "{query}: {}", refused.text);
    }
}

#[tokio::test]
async fn another_orgs_uploads_are_in_no_list() {
    let world = World::new().await;
    let (mine, rival) = (world.client().await, world.client().await);
    let id = create(&mine, json!({ "filename": "mine", "ref": "r", "target": {"kind": "order", "number": "7"} })).await;
    let org = uploads::find(&world.ctx.db, id).await.unwrap().unwrap().org_id;
    let reporter = Client { token: Some(world.key(org, &[Scope::Report]).await), world: &world };

    for query in ["", "ref=r", "target=order&number=7", "number=7", "status=issued"] {
        let path = format!("/api/uploads?{query}");
        assert_eq!(mine.get(&path).await.is(200).body["count"], 1, "{query}");
        assert_eq!(rival.get(&path).await.is(200).body["uploads"], json!([]), "{query}");
        assert_eq!(reporter.get(&path).await.is(403).slug(), "authorization_error");
    }
}
