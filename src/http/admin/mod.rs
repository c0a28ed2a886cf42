//! `/api/admin`: for operators, and across orgs. Every route needs the scope `admin`.

mod timeline;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Http;

/// Everything below `/api/admin`.
pub fn routes() -> OpenApiRouter<Arc<Http>> {
    OpenApiRouter::default().routes(routes!(timeline::show))
}
