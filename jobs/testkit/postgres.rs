//! A schema of its own for every test that needs PostgreSQL, on the server that `LONGSHORE_TEST_POSTGRES` names.

use std::env;

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use uuid::Uuid;

/// Where the server is: `postgres://…`, of a user that may create schemas.
const SERVER: &str = "LONGSHORE_TEST_POSTGRES";
/// Whoever sets this wants no test to be skipped.
const REQUIRE: &str = "LONGSHORE_TEST_REQUIRE";

/// The URL of an empty schema, which stays when the test is over, as its server is made for tests. `None`, and a word about
/// it, when there is no server.
pub async fn schema(what: &str) -> Option<String> {
    let Ok(server) = env::var(SERVER) else {
        skip(what);
        return None;
    };
    let schema = format!("t_{}", Uuid::now_v7().simple());
    let mut connection = PgConnection::connect(&server).await.expect("the server for tests answers");
    let query = format!("create schema {schema}");
    connection.execute(AssertSqlSafe(query)).await.expect("a schema of that name is new");
    connection.close().await.expect("the server for tests answers");
    let mark = if server.contains('?') { '&' } else { '?' };
    Some(format!("{server}{mark}options=-c%20search_path%3D{schema}"))
}

#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn skip(what: &str) {
    assert!(env::var_os(REQUIRE).is_none(), "{what} needs {SERVER}");
    eprintln!("SKIPPED: {what} ({SERVER} is not set; ops/test starts one)");
}
