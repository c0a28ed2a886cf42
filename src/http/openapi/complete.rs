//! What every route has, added to the document in one place: the general errors, the request id, and the ways to show who
//! one is.

use utoipa::ToSchema as _;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::info::{InfoBuilder, LicenseBuilder};
use utoipa::openapi::path::{Operation, Parameter, PathItem};
use utoipa::openapi::schema::{ComponentsBuilder, ObjectBuilder, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::tag::{Tag, TagBuilder};
use utoipa::openapi::{Components, Info, OpenApi, OpenApiBuilder, Ref, RefOr, Response, Server};

use super::super::errors::{ErrorBody, Slug};
use super::refusals;

const REQUEST_ID: &str = "X-Request-Id";

/// The security scheme of those who push notices.
const NOTICE_SECRET: &str = "noticeSecret";

const ABOUT: &str = include_str!("about.md");

/// The document with everything that is not said at each route.
pub fn complete(mut routes: OpenApi) -> OpenApi {
    let parts = routes.components.take().unwrap_or_default();
    routes.paths.paths.values_mut().flat_map(operations).for_each(complete_operation);
    OpenApiBuilder::from(routes)
        .info(about())
        .servers(Some([Server::new("/")]))
        .components(Some(complete_parts(parts)))
        .tags(Some(tags()))
        .security(Some(ways()))
        .build()
}

fn about() -> Info {
    let license = LicenseBuilder::new().name("MIT OR Apache-2.0").build();
    InfoBuilder::new()
        .title("longshore")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(license))
        .build()
}

fn tags() -> [Tag; 6] {
    [
        ("Uploads", "Ask for an upload, and put the bytes straight into the bucket."),
        (
            "Batches",
            "Ask for many uploads by one call, or put any number of files under one policy, and see how they get on.",
        ),
        ("Files", "What the org has, and a form that takes in more."),
        ("Notices", "Events pushed by an S3 server, where the service is configured to take them."),
        ("Operations", "For those who run the service."),
        ("Admin", "What operators see and do, over all orgs; with a key of the scope `admin`."),
    ]
    .map(|(name, meaning)| TagBuilder::new().name(name).description(Some(meaning)).build())
}

/// Any one of them will do.
fn ways() -> [SecurityRequirement; 3] {
    [
        SecurityRequirement::new("bearer", [""; 0]),
        SecurityRequirement::new("apiKey", [""; 0]).add("apiSecret", [""; 0]),
        SecurityRequirement::new("basic", [""; 0]),
    ]
}

fn schemes() -> [(&'static str, SecurityScheme); 5] {
    let http =
        |scheme, meaning| SecurityScheme::Http(HttpBuilder::new().scheme(scheme).description(Some(meaning)).build());
    let header = |name, meaning| SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(name, meaning)));
    let bearer = HttpAuthScheme::Bearer;
    [
        ("bearer", http(bearer.clone(), "A token `lsk_<key>_<secret>`, which carries key and secret.")),
        ("apiKey", header("X-Api-Key", "The key, together with `X-Api-Secret`.")),
        ("apiSecret", header("X-Api-Secret", "The key's secret, together with `X-Api-Key`.")),
        ("basic", http(HttpAuthScheme::Basic, "The key as the user, its secret as the password.")),
        (NOTICE_SECRET, http(bearer, "The secret that the service is configured with for notices.")),
    ]
}

/// Adds what operations refer to, and the two errors that belong to no operation.
fn complete_parts(parts: Components) -> Components {
    let mut schemas = Vec::new();
    ErrorBody::schemas(&mut schemas);
    let lost = [("NotFound", Slug::NotFound), ("MethodNotAllowed", Slug::MethodNotAllowed)];
    let lost = lost.into_iter().flat_map(|(name, slug)| {
        refusals::by_status(&[slug]).into_values().map(move |response| (name, identified(response)))
    });
    schemes()
        .into_iter()
        .fold(ComponentsBuilder::from(parts), |parts, (name, scheme)| parts.security_scheme(name, scheme))
        .schema_from::<ErrorBody>()
        .schemas_from_iter(schemas)
        .header(REQUEST_ID, request_id())
        .responses_from_iter(lost)
        .build()
}

fn operations(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut path.get, &mut path.head, &mut path.post, &mut path.put, &mut path.patch, &mut path.delete]
        .into_iter()
        .filter_map(Option::as_mut)
}

fn complete_operation(operation: &mut Operation) {
    let responses = &mut operation.responses.responses;
    for (status, response) in refusals::by_status(general(operation.security.as_deref())) {
        responses.entry(status).or_insert(response);
    }
    let prefers = operation.parameters.iter().flatten().any(is_prefer);
    for (status, response) in responses {
        let mut said = identified(std::mem::replace(response, Response::default().into()));
        if let (RefOr::T(said), true) = (&mut said, prefers && status.starts_with('2')) {
            said.headers.insert("Preference-Applied".to_owned(), preference_applied().into());
        }
        *response = said;
    }
}

/// With the request id, which every answer has.
fn identified(mut response: RefOr<Response>) -> RefOr<Response> {
    if let RefOr::T(response) = &mut response {
        let id = Ref::new(format!("#/components/headers/{REQUEST_ID}"));
        response.headers.insert(REQUEST_ID.to_owned(), RefOr::Ref(id));
    }
    response
}

fn is_prefer(parameter: &RefOr<Parameter>) -> bool {
    matches!(parameter, RefOr::T(parameter) if parameter.name == "Prefer")
}

/// What a route of this security can answer with, whatever it does.
fn general(security: Option<&[SecurityRequirement]>) -> &'static [Slug] {
    match security {
        None => &[Slug::Authentication, Slug::Authorization, Slug::Internal, Slug::Unavailable],
        Some([only]) if *only == SecurityRequirement::default() => &[Slug::Internal],
        Some(_) => &[Slug::Authentication, Slug::Internal, Slug::Unavailable],
    }
}

fn preference_applied() -> Header {
    let schema = ObjectBuilder::new().schema_type(Type::String);
    HeaderBuilder::new().schema(Some(schema)).description(Some("The preference that was followed, if any.")).build()
}

fn request_id() -> Header {
    let schema = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(128));
    HeaderBuilder::new().schema(Some(schema)).description(Some("Names this request in the service's logs.")).build()
}
