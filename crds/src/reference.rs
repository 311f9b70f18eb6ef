//! Writes the API reference as Markdown from the definitions and the declarations of reasons.
//!
//! This module knows the shape of a structural schema, but no field by name.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion, JSONSchemaProps,
    JSONSchemaPropsOrArray,
};

use crate::{AcceptedReason, GoldenReason, PoolReason, ScheduledReason, SucceededReason, all_crds};

const HEAD: &str = "<!-- Written from crds/src by `UPDATE=1 cargo test -p agentvm-crds`. Do not \
    edit. -->\n\n# API reference\n\n\
    Group `agentvm.dev`, version `v1alpha1`. All kinds are namespaced. On your own cluster, \
    `kubectl explain arun.spec.timeoutSeconds` prints the description of a field.\n\n\
    Conditions follow the Kubernetes API conventions. Their reasons are closed sets; the chapter \
    of each kind lists them. agentvm writes every time as RFC 3339, in New York time with its \
    offset.\n";

/// The text of `docs/api-reference.md`.
pub fn reference() -> String {
    all_crds().iter().fold(HEAD.to_owned(), |text, crd| text + &kind(crd))
}

/// The chapter of one kind.
fn kind(crd: &CustomResourceDefinition) -> String {
    let names = &crd.spec.names;
    let mut parts = vec![format!("\n## {}\n\n", names.kind)];
    for version in &crd.spec.versions {
        let Some(root) =
            version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref())
        else {
            continue;
        };
        let about = root.description.as_deref().unwrap_or_default();
        parts.extend([format!("{about}\n\n"), facts(crd, version), fields(root), rules(root)]);
    }
    parts.push(reasons(&names.kind));
    parts.concat()
}

/// A list of the ways to use the kind with `kubectl`.
fn facts(crd: &CustomResourceDefinition, version: &CustomResourceDefinitionVersion) -> String {
    let names = &crd.spec.names;
    let short = joined(names.short_names.iter().flatten().map(|name| format!("`{name}`")));
    let wide = |priority: Option<i32>| if priority.is_some() { " (`-o wide`)" } else { "" };
    let columns = version.additional_printer_columns.iter().flatten();
    let columns = joined(columns.map(|column| format!("{}{}", column.name, wide(column.priority))));
    let mut lines = vec![
        format!("- `kubectl get {}`, short {short}\n", names.plural),
        format!("- columns: {columns}\n"),
    ];
    if let Some(scale) = version.subresources.as_ref().and_then(|all| all.scale.as_ref()) {
        let path = scale.spec_replicas_path.trim_start_matches('.');
        lines.push(format!("- `kubectl scale` reads and writes `{path}`\n"));
    }
    let selectable = version.selectable_fields.iter().flatten();
    let selectable =
        joined(selectable.map(|field| format!("`{}`", field.json_path.trim_start_matches('.'))));
    if !selectable.is_empty() {
        lines.push(format!("- `--field-selector`: {selectable}\n"));
    }
    lines.concat()
}

fn joined(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

/// The tables of `spec` and `status`.
fn fields(root: &JSONSchemaProps) -> String {
    let mut parts = Vec::new();
    for (name, part) in root
        .properties
        .iter()
        .flatten()
        .filter(|(name, _)| ["spec", "status"].contains(&name.as_str()))
    {
        parts.push(format!(
            "\n### `{name}`\n\n\
             | field | type | default | limits | meaning |\n|---|---|---|---|---|\n"
        ));
        each_property(name, part, &mut |path, property| parts.push(row(path, property)));
    }
    parts.concat()
}

/// Calls `visit` for every field below a schema, in alphabetical order; a field comes before the
/// fields in it.
fn each_property(
    path: &str,
    schema: &JSONSchemaProps,
    visit: &mut dyn FnMut(&str, &JSONSchemaProps),
) {
    for (name, property) in schema.properties.iter().flatten() {
        let path = format!("{path}.{name}");
        visit(&path, property);
        each_property(&path, property, visit);
    }
    if let Some(items) = items(schema) {
        each_property(&format!("{path}[]"), items, visit);
    }
}

fn items(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => Some(items),
        _ => None,
    }
}

fn row(path: &str, property: &JSONSchemaProps) -> String {
    let default =
        property.default.as_ref().map(|value| format!("`{}`", value.0)).unwrap_or_default();
    let meaning = property.description.as_deref().unwrap_or_default().replace('\n', " ");
    let cells = [format!("`{path}`"), type_of(property), default, limits(property), meaning];
    format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
}

fn type_of(schema: &JSONSchemaProps) -> String {
    match items(schema) {
        Some(items) => format!("list of {}", type_of(items)),
        None => schema.type_.clone().unwrap_or_default(),
    }
}

/// The values that the schema itself accepts.
fn limits(schema: &JSONSchemaProps) -> String {
    let values = schema.enum_.iter().flatten();
    let mut all =
        vec![joined(values.map(|value| format!("`{}`", value.0.as_str().unwrap_or_default())))];
    all.push(range(schema.minimum, schema.maximum, ""));
    all.push(range(schema.min_length, schema.max_length, " characters"));
    all.push(range(schema.min_items, schema.max_items, " items"));
    all.extend(schema.pattern.iter().map(|pattern| format!("`{pattern}`")));
    all.extend(
        items(schema)
            .map(limits)
            .filter(|text| !text.is_empty())
            .map(|text| format!("each: {text}")),
    );
    all.retain(|text| !text.is_empty());
    all.join("; ")
}

fn range<T: std::fmt::Display>(min: Option<T>, max: Option<T>, unit: &str) -> String {
    match (min, max) {
        (Some(min), Some(max)) => format!("{min} to {max}{unit}"),
        (Some(min), None) => format!("at least {min}{unit}"),
        (None, Some(max)) => format!("at most {max}{unit}"),
        (None, None) => String::new(),
    }
}

/// The rules beyond the limits of one field. The text of each is the message of its refusal.
fn rules(root: &JSONSchemaProps) -> String {
    let mut lines = Vec::new();
    let mut collect = |path: &str, schema: &JSONSchemaProps| {
        for rule in schema.x_kubernetes_validations.iter().flatten() {
            let path = format!("{path}{}", rule.field_path.as_deref().unwrap_or_default());
            lines.push(format!("- `{path}`: {}\n", rule.message.as_deref().unwrap_or(&rule.rule)));
        }
    };
    for (name, part) in root.properties.iter().flatten() {
        collect(name, part);
        if let Some(items) = items(part) {
            collect(&format!("{name}[]"), items);
        }
        each_property(name, part, &mut |path, property| {
            collect(path, property);
            if let Some(items) = items(property) {
                collect(&format!("{path}[]"), items);
            }
        });
    }
    if lines.is_empty() {
        String::new()
    } else {
        format!("\n### Refused at admission\n\n{}", lines.concat())
    }
}

/// The closed sets of reasons of a kind.
fn reasons(kind: &str) -> String {
    match kind {
        "GoldenSnapshot" => table(
            "`Ready`, `Reconciling`, `Stalled`",
            GoldenReason::ALL.iter().map(|r| (r.as_str(), r.meaning())),
        ),
        "AgentVMPool" => table(
            "`Ready`, `Progressing`, `Degraded`, `Reconciling`, `Stalled`",
            PoolReason::ALL.iter().map(|r| (r.as_str(), r.meaning())),
        ),
        _ => [
            table("`Accepted`", AcceptedReason::ALL.iter().map(|r| (r.as_str(), r.meaning()))),
            table("`Scheduled`", ScheduledReason::ALL.iter().map(|r| (r.as_str(), r.meaning()))),
            table("`Succeeded`", SucceededReason::ALL.iter().map(|r| (r.as_str(), r.meaning()))),
        ]
        .concat(),
    }
}

fn table(conditions: &str, reasons: impl Iterator<Item = (&'static str, &'static str)>) -> String {
    let rows: Vec<_> = reasons
        .map(|(word, meaning)| format!("| `{word}` | {} |\n", meaning.replace('|', "\\|")))
        .collect();
    format!("\n### Reasons of {conditions}\n\n| reason | meaning |\n|---|---|\n{}", rows.concat())
}
