//! A malformed object in the store never stops the watch of the others. The test changes the CRDs,
//! so it has a control plane of its own.

use agentvm_crds::{AgentRun, AgentVMPool, GoldenSnapshot};
use agentvm_testing::wait_until_async;
use agentvm_tests::{World, reason};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use kube::api::{Api, ApiResource, DynamicObject, PostParams};
use serde_json::{Value, json};

const PLURALS: [(&str, &str); 3] = [
    ("GoldenSnapshot", "goldensnapshots"),
    ("AgentVMPool", "agentvmpools"),
    ("AgentRun", "agentruns"),
];

fn as_shipped(plural: &str) -> CustomResourceDefinition {
    agentvm_crds::all_crds().into_iter().find(|crd| crd.spec.names.plural == plural).unwrap()
}

/// Sets the schemas of our kinds; `None` takes anything.
async fn set_schemas(world: &World, schemas: Option<&[JSONSchemaProps]>) -> Vec<JSONSchemaProps> {
    let api = Api::<CustomResourceDefinition>::all(world.bench.client.clone());
    let mut old = Vec::new();
    for (n, (_, plural)) in PLURALS.iter().enumerate() {
        let mut crd = api.get(&format!("{plural}.agentvm.dev")).await.unwrap();
        let schema =
            crd.spec.versions[0].schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap();
        old.push(schema.clone());
        *schema = match schemas {
            Some(schemas) => schemas[n].clone(),
            None => serde_json::from_value(
                json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
            )
            .unwrap(),
        };
        // Without a schema there are no fields to select by.
        crd.spec.versions[0].selectable_fields = match schemas {
            Some(_) => as_shipped(plural).spec.versions.remove(0).selectable_fields,
            None => None,
        };
        api.replace(&crd.metadata.name.clone().unwrap(), &PostParams::default(), &crd)
            .await
            .unwrap();
    }
    old
}

async fn create_malformed(
    world: &World,
    (kind, plural): (&str, &str),
    name: &str,
    spec: Value,
) -> bool {
    let resource = ApiResource {
        group: "agentvm.dev".into(),
        version: "v1alpha1".into(),
        api_version: "agentvm.dev/v1alpha1".into(),
        kind: kind.into(),
        plural: plural.into(),
    };
    let api = Api::<DynamicObject>::namespaced_with(
        world.bench.client.clone(),
        &world.bench.namespace,
        &resource,
    );
    let object = DynamicObject::new(name, &resource).data(json!({ "spec": spec }));
    api.create(&PostParams::default(), &object).await.is_ok()
}

/// Malformed objects of each kind; the API server takes a while to forget the schemas.
async fn store_malformed(world: &World, name: &str) {
    let specs = [json!({"source": 5}), json!({"goldenSnapshotRef": 5}), json!({"command": "true"})];
    let schemas = set_schemas(world, None).await;
    for (kind, spec) in PLURALS.into_iter().zip(specs) {
        wait_until_async("the API server takes it", || {
            create_malformed(world, kind, name, spec.clone())
        })
        .await;
    }
    set_schemas(world, Some(&schemas)).await;
}

#[tokio::test]
async fn a_malformed_object_of_each_kind_stops_nobody() {
    let mut world = World::at_rest_alone().await;
    store_malformed(&world, "before").await;
    world.start().await;
    world.pool("default", 1, 1).await;
    world.script("first", "true", json!({})).await;
    assert_eq!(
        reason(&world.finished("first").await, "Succeeded"),
        "True/Completed",
        "with malformed ones in the list"
    );
    store_malformed(&world, "meanwhile").await;
    world.script("second", "true", json!({})).await;
    assert_eq!(
        reason(&world.finished("second").await, "Succeeded"),
        "True/Completed",
        "with malformed ones in the watch"
    );
    world.says::<GoldenSnapshot>("default", "Ready", "True/Captured").await;
    world.says::<AgentVMPool>("default", "Ready", "True/Filled").await;
    assert!(world.bench.api::<AgentRun>().get("before").await.is_err(), "it is malformed");
}
