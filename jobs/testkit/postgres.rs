//! A schema of its own for every test that needs PostgreSQL.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use uuid::Uuid;

use super::given;
use crate::ledger::postgres::in_schema;

/// The URL of an empty schema on the server that `LONGSHORE_TEST_POSTGRES` names. `None`, and a word about it, when there is none.
pub async fn schema(what: &str) -> Option<String> {
    Some(schema_on(&given("LONGSHORE_TEST_POSTGRES", what)?).await)
}

/// The URL of an empty schema on a server at `postgres://…`, where the user may create schemas. It stays when the test is over, as
/// the server is made for tests.
pub async fn schema_on(server: &str) -> String {
    let schema = format!("t_{}", Uuid::now_v7().simple());
    let mut connection = PgConnection::connect(server).await.expect("the server for tests answers");
    let query = format!("create schema {schema}");
    connection.execute(AssertSqlSafe(query)).await.expect("a schema of that name is new");
    connection.close().await.expect("the server for tests answers");
    in_schema(server, &schema)
}
