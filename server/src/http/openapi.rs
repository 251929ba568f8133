//! The `OpenAPI` document, made from the table of routes and the shapes of bodies.
//!
//! It is committed as `docs/openapi.json`; a test fails when the two part. After a change of the
//! table: `UPDATE_OPENAPI=1 cargo test -p stormwheel-server openapi`.

use super::manners::Media;
use super::producer::{PRODUCER_HEADER, SEQUENCE_HEADER};
use super::query::{Param, ParamKind};
use super::routes::{ROUTES, Reads, Route, Verb};
use super::schema;
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder,
    PathsBuilder, Ref, Required, ResponseBuilder,
};

/// The document as JSON.
pub fn document() -> String {
    let mut text =
        openapi().to_pretty_json().expect("the document is made of text and numbers only");
    text.push('\n');
    text
}

fn openapi() -> OpenApi {
    let mut paths = PathsBuilder::new();
    for route in ROUTES {
        paths = add(paths, route, &route.template(), "");
        if let Some(path) = route.default_template() {
            paths = add(paths, route, &path, "InDefault");
        }
    }
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Stormwheel")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(
                    "Keyed timers with Apache Flink's semantics. Every path under \
                     /v1/namespaces/{ns} that deals with timers, outputs and watermarks is also \
                     there without it, for the namespace `default`. Errors are RFC 9457 problems.",
                ))
                .license(Some(LicenseBuilder::new().name("Apache-2.0").build()))
                .build(),
        )
        .paths(paths.build())
        .components(Some(components()))
        .build()
}

fn components() -> utoipa::openapi::Components {
    macro_rules! with_schemas {
        ($($name:ident),* $(,)?) => {
            ComponentsBuilder::new()$(.schema_from::<schema::$name>())*.build()
        };
    }
    with_schemas!(
        Applied,
        BatchLine,
        BatchOperation,
        BatchVerb,
        BroadcastElement,
        BroadcastResult,
        BroadcastTaken,
        Check,
        Checkpoint,
        Checkpoints,
        ClockChange,
        ClockChanged,
        ClockStatus,
        Domain,
        ElementError,
        ElementLine,
        ElementsTaken,
        Forecast,
        Health,
        KeyTimers,
        Namespace,
        NamespaceChange,
        NamespaceClose,
        NamespaceClosed,
        NamespacePaused,
        NamespaceConfig,
        NamespaceDeleted,
        NamespaceLimits,
        NamespacePage,
        NamespaceStatus,
        NamespaceStop,
        NamespaceSummary,
        StoppedElement,
        StoppedTimer,
        OnError,
        Only,
        Outcome,
        Output,
        Overdue,
        PendingTimers,
        Problem,
        Registration,
        Savepoint,
        SavepointNamespace,
        SavepointRequest,
        Savepoints,
        Retention,
        Source,
        SourceChange,
        SourceChanged,
        Time,
        Timer,
        TimerPage,
        Touch,
        Watermark,
        WatermarkConfig,
    )
}

fn add(paths: PathsBuilder, route: &Route, path: &str, suffix: &str) -> PathsBuilder {
    let item = utoipa::openapi::PathItem::new(method(route.verb), operation(route, path, suffix));
    paths.path(path, item)
}

const fn method(verb: Verb) -> HttpMethod {
    match verb {
        Verb::Get => HttpMethod::Get,
        Verb::Put => HttpMethod::Put,
        Verb::Post => HttpMethod::Post,
        Verb::Patch => HttpMethod::Patch,
        Verb::Delete => HttpMethod::Delete,
    }
}

fn operation(route: &Route, path: &str, suffix: &str) -> Operation {
    let name = format!("{:?}{suffix}", route.call);
    let mut operation = OperationBuilder::new()
        .summary(Some(route.summary))
        .operation_id(Some(name))
        .tag(route.scope.as_str());
    for part in path.split('/') {
        if let Some(name) = part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            operation = operation.parameter(path_parameter(name));
        }
    }
    for param in route.params {
        operation = operation.parameter(query_parameter(param));
    }
    if route.registers() {
        let header = ParameterBuilder::new()
            .name("If-None-Match")
            .parameter_in(ParameterIn::Header)
            .description(Some("`*`: only if no such timer is registered, else 412."))
            .schema(Some(text(&["*"])));
        operation = operation.parameter(header);
    }
    if route.takes_producer() {
        for (name, description, schema) in [
            (
                PRODUCER_HEADER,
                "Who sends it, [A-Za-z0-9][A-Za-z0-9._-]{0,127}; only with Stormwheel-Sequence. A \
                 request that is repeated takes effect once, and is answered `repeated`.",
                Type::String,
            ),
            (
                SEQUENCE_HEADER,
                "The number of the request: larger than that of the producer's request before.",
                Type::Integer,
            ),
        ] {
            let header = ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Header)
                .description(Some(description))
                .schema(Some(Schema::Object(ObjectBuilder::new().schema_type(schema).build())));
            operation = operation.parameter(header);
        }
    }
    match route.reads {
        Reads::Nothing => {}
        Reads::Single(name) => {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(name))).build();
            let body = RequestBodyBuilder::new().content(Media::Json.as_str(), content);
            operation = operation.request_body(Some(body.build()));
        }
        Reads::Batch(name) => {
            let line = ContentBuilder::new().schema(Some(Ref::from_schema_name(name))).build();
            let body = RequestBodyBuilder::new()
                .content(Media::Ndjson.as_str(), line)
                .content(Media::Arrow.as_str(), ContentBuilder::new().build())
                .required(Some(Required::True));
            operation = operation.request_body(Some(body.build()));
        }
    }
    let mut good = ResponseBuilder::new().description(route.summary);
    for media in route.gives {
        good = good.content(media.as_str(), answer_content(route, *media));
    }
    let good = good.build();
    if route.creates {
        operation = operation.response("201", good.clone());
    }
    if route.begins {
        operation = operation.response("202", good.clone());
    }
    if route.gives_nothing() {
        let done = ResponseBuilder::new().description(route.summary).build();
        operation = operation.response("204", done);
    } else {
        operation = operation.response("200", good);
    }
    let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    operation
        .response(
            "default",
            ResponseBuilder::new()
                .description("A problem; its type is a page that says what to do.")
                .content("application/problem+json", problem)
                .build(),
        )
        .build()
}

fn answer_content(route: &Route, media: Media) -> utoipa::openapi::Content {
    let describes = matches!(media, Media::Json | Media::Ndjson);
    let content = ContentBuilder::new();
    match route.schema {
        Some(name) if describes => content.schema(Some(Ref::from_schema_name(name))).build(),
        _ => content.build(),
    }
}

fn path_parameter(name: &str) -> Parameter {
    let description = match name {
        "n" => "The number of the checkpoint.",
        "id" => "What the savepoint is called.",
        "key" => "1 to 1024 bytes: text, or ~ and unpadded base64url. In a path / is %2F.",
        "name" => "The timer's name, 1 to 255 bytes of UTF-8.",
        "ns" => "The namespace, [A-Za-z0-9][A-Za-z0-9._-]{0,127}.",
        "source" => "The source of watermarks, [A-Za-z0-9][A-Za-z0-9._-]{0,127}.",
        _ => "The last part of a problem's type.",
    };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(text(&[])))
        .build()
}

fn query_parameter(param: &Param) -> Parameter {
    let schema = match param.kind {
        ParamKind::Integer => {
            Schema::Object(ObjectBuilder::new().schema_type(Type::Integer).build())
        }
        ParamKind::Flag => Schema::Object(ObjectBuilder::new().schema_type(Type::Boolean).build()),
        ParamKind::Word(words) => text(words),
        ParamKind::Text | ParamKind::TextOrEmpty | ParamKind::Time | ParamKind::Duration => {
            text(&[])
        }
    };
    let schema = if param.repeated {
        Schema::Array(ArrayBuilder::new().items(utoipa::openapi::RefOr::T(schema)).build())
    } else {
        schema
    };
    ParameterBuilder::new()
        .name(param.name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(param.summary))
        .schema(Some(schema))
        .build()
}

fn text(words: &[&'static str]) -> Schema {
    let object = ObjectBuilder::new().schema_type(Type::String);
    let object =
        if words.is_empty() { object } else { object.enum_values(Some(words.iter().copied())) };
    Schema::Object(object.build())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeSet;
    use std::path::Path;

    #[test]
    fn the_committed_document_is_the_one_that_is_served() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
        if std::env::vars_os().any(|(name, _)| name == "UPDATE_OPENAPI") {
            std::fs::write(&path, document()).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == document(),
            "docs/openapi.json is not what the code says; run \
             UPDATE_OPENAPI=1 cargo test -p stormwheel-server openapi"
        );
    }

    #[test]
    fn its_paths_are_the_routes() {
        let document: Value = serde_json::from_str(&document()).unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        let mut documented = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for verb in item.as_object().unwrap().keys() {
                documented.insert((path.clone(), verb.to_uppercase()));
            }
        }
        let mut routed = BTreeSet::new();
        for route in ROUTES {
            for path in std::iter::once(route.template()).chain(route.default_template()) {
                routed.insert((path, route.verb.as_str().to_owned()));
            }
        }
        assert_eq!(documented, routed);
    }

    #[test]
    fn every_schema_that_is_named_is_there() {
        let text = document();
        let document: Value = serde_json::from_str(&text).unwrap();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
    }
}
