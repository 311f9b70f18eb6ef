//! Every field has a description and a bound: `kubectl explain` is a manual, and no object grows
//! without end.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends where something is not as it should be"
)]

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray,
};

/// Every field of every kind below `spec` and `status`, with its path.
fn fields() -> Vec<(String, JSONSchemaProps)> {
    let mut all = Vec::new();
    for crd in agentvm_crds::all_crds() {
        for version in &crd.spec.versions {
            let root = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
            collect(&crd.spec.names.kind, root, &mut all);
        }
    }
    assert!(all.len() > 100, "the walk finds {} fields only", all.len());
    all
}

fn collect(path: &str, schema: &JSONSchemaProps, all: &mut Vec<(String, JSONSchemaProps)>) {
    for (name, property) in schema.properties.iter().flatten() {
        let path = format!("{path}.{name}");
        all.push((path.clone(), property.clone()));
        collect(&path, property, all);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        let path = format!("{path}[]");
        if items.properties.is_none() {
            all.push((path.clone(), (**items).clone()));
        }
        collect(&path, items, all);
    }
}

fn offenders(offends: impl Fn(&str, &JSONSchemaProps) -> bool) -> Vec<String> {
    fields()
        .into_iter()
        .filter(|(path, field)| offends(path, field))
        .map(|(path, _)| path)
        .collect()
}

#[test]
fn every_field_is_described() {
    let silent = offenders(|path, field| {
        !path.ends_with("[]") && field.description.as_ref().is_none_or(|d| d.len() < 10)
    });
    assert_eq!(silent, Vec::<String>::new());
}

#[test]
fn every_text_and_list_is_bounded() {
    let boundless = offenders(|_, field| match field.type_.as_deref() {
        Some("string") => field.max_length.is_none() && field.enum_.is_none(),
        Some("array") => field.max_items.is_none(),
        Some("object") => field.properties.is_none(),
        _ => false,
    });
    assert_eq!(boundless, Vec::<String>::new());
}

#[test]
fn every_number_of_a_spec_is_bounded() {
    let boundless = offenders(|path, field| {
        path.contains(".spec.")
            && field.type_.as_deref() == Some("integer")
            && (field.minimum.is_none() || field.maximum.is_none())
            && field.x_kubernetes_validations.is_none()
    });
    assert_eq!(boundless, Vec::<String>::new());
}

#[test]
fn an_optional_field_of_a_spec_says_its_default_or_what_it_depends_on() {
    let silent = offenders(|path, field| {
        let text = field.description.clone().unwrap_or_default();
        path.contains(".spec.")
            && !path.ends_with("[]")
            && ![
                "Default: ",
                "Required.",
                "xactly one of",
                "At most one of",
                "Custom`",
                "for people",
            ]
            .iter()
            .any(|say| text.contains(say))
    });
    assert_eq!(silent, Vec::<String>::new());
}

#[test]
fn a_default_that_the_api_server_fills_in_is_in_the_description() {
    let silent = offenders(|path, field| {
        let Some(default) = field.default.as_ref().map(|json| &json.0) else { return false };
        let text = field.description.clone().unwrap_or_default();
        let word = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
        let told = default.is_object() || text.contains(&word);
        path.contains(".spec.") && !(text.contains("Default: ") && told)
    });
    assert_eq!(silent, Vec::<String>::new());
}

#[test]
fn the_values_of_an_enum_are_explained() {
    let silent =
        offenders(|_, field| {
            let text = field.description.clone().unwrap_or_default();
            field.enum_.iter().flatten().any(|value| {
                !text.contains(&format!("`{}`: ", value.0.as_str().unwrap_or_default()))
            })
        });
    assert_eq!(silent, Vec::<String>::new());
}

#[test]
fn null_counts_as_absent() {
    assert_eq!(offenders(|_, field| field.nullable.is_some()), Vec::<String>::new());
}
