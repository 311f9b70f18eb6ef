//! Completes the derived schemas for the API server and for readers of `kubectl explain`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use schemars::Schema;
use serde_json::{Value, json};

/// Adds the meaning of each value of an enum to the description of the field, because `kubectl
/// explain` shows only the field's description.
pub fn explain_values(schema: &mut Schema) {
    let values = meanings(schema.as_value());
    let Some(object) = schema.as_object_mut() else { return };
    if values.is_empty() {
        return;
    }
    let before = object.get("description").and_then(Value::as_str).unwrap_or_default();
    let text = format!("{before} {}", values.join(" "));
    object.insert("description".to_owned(), Value::String(text.trim().to_owned()));
    // An optional enum is `anyOf` the enum and null. kube lifts the enum up; then its description
    // would replace the description of the field.
    for alternative in object.get_mut("anyOf").and_then(Value::as_array_mut).into_iter().flatten() {
        alternative.as_object_mut().map(|one| one.remove("description"));
    }
}

/// `` `Value`: meaning. `` for each documented value.
fn meanings(schema: &Value) -> Vec<String> {
    let alternatives =
        ["oneOf", "anyOf"].iter().filter_map(|key| schema.get(key)?.as_array()).flatten();
    alternatives
        .flat_map(|one| {
            match (
                one.get("const").and_then(Value::as_str),
                one.get("description").and_then(Value::as_str),
            ) {
                (Some(value), Some(meaning)) => vec![format!("`{value}`: {meaning}")],
                _ => meanings(one),
            }
        })
        .collect()
}

/// Completes a derived definition so that it can be installed.
pub fn finish(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        if let Some(root) =
            version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut())
        {
            in_progress_from_the_start(root);
            walk(root, &mut |schema| {
                // An optional field that is null counts as absent everywhere in Kubernetes;
                // `nullable` would make it present.
                schema.nullable = None;
                schema.description =
                    schema.description.take().map(|text| one_line_a_paragraph(&text));
            });
        }
    }
    crd
}

/// A new object has generation 1 and this status, until an operator has seen it. So kstatus counts
/// it as in progress; without a status it would count as healthy. The API server drops a status
/// that a user sends, and fills this one in whenever it reads the object.
fn in_progress_from_the_start(root: &mut JSONSchemaProps) {
    if let Some(status) = root.properties.as_mut().and_then(|all| all.get_mut("status")) {
        status.default = Some(JSON(json!({"observedGeneration": 0})));
    }
}

/// Calls `visit` for a schema and all below it.
pub fn walk(schema: &mut JSONSchemaProps, visit: &mut dyn FnMut(&mut JSONSchemaProps)) {
    visit(schema);
    for property in schema.properties.iter_mut().flat_map(|all| all.values_mut()) {
        walk(property, visit);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        walk(items, visit);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        walk(values, visit);
    }
}

/// Joins the lines of each paragraph: source lines break at 100 columns, but the reader's screen
/// decides where the lines of a description break.
fn one_line_a_paragraph(text: &str) -> String {
    let paragraphs: Vec<_> = text
        .split("\n\n")
        .map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    paragraphs.join("\n\n")
}
