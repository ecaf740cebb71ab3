//! The JSON reports of every command are what `docs/report.schema.json` says.

use serde_json::Value;

use crate::harness::fixture;
use crate::training_scene::Scene;

/// What of a document breaks a schema, of the keywords that this project's schema uses.
fn problems(place: &str, document: &Value, schema: &Value, root: &Value, found: &mut Vec<String>) {
    let Some(schema) = schema.as_object() else { return };
    for (keyword, rule) in schema {
        let holds = match keyword.as_str() {
            "$ref" => {
                let name =
                    rule.as_str().and_then(|text| text.strip_prefix("#/$defs/")).expect("a local reference");
                problems(place, document, &root["$defs"][name], root, found);
                root["$defs"].get(name).is_some()
            }
            "type" => {
                let is = |kind: &Value| match kind.as_str().expect("a type") {
                    "object" => document.is_object(),
                    "array" => document.is_array(),
                    "string" => document.is_string(),
                    "boolean" => document.is_boolean(),
                    "null" => document.is_null(),
                    "number" => document.is_number(),
                    "integer" => document.is_u64() || document.is_i64(),
                    other => panic!("unknown type {other}"),
                };
                rule.as_array().map_or_else(|| is(rule), |kinds| kinds.iter().any(is))
            }
            "const" => document == rule,
            "enum" => rule.as_array().expect("values").contains(document),
            "minimum" => document.as_f64().is_none_or(|number| number >= rule.as_f64().expect("a number")),
            "maximum" => document.as_f64().is_none_or(|number| number <= rule.as_f64().expect("a number")),
            "minItems" => {
                document.as_array().is_none_or(|all| all.len() as u64 >= rule.as_u64().expect("a count"))
            }
            "required" => rule
                .as_array()
                .expect("names")
                .iter()
                .all(|name| document.get(name.as_str().expect("a name")).is_some()),
            "properties" => {
                for (name, inner) in rule.as_object().expect("properties") {
                    if let Some(value) = document.get(name) {
                        problems(&format!("{place}/{name}"), value, inner, root, found);
                    }
                }
                true
            }
            "additionalProperties" => {
                assert_eq!(rule, false);
                let known = &schema["properties"];
                document.as_object().is_none_or(|object| object.keys().all(|name| known.get(name).is_some()))
            }
            "items" => {
                for (index, item) in document.as_array().into_iter().flatten().enumerate() {
                    problems(&format!("{place}/{index}"), item, rule, root, found);
                }
                true
            }
            "oneOf" => {
                let broken = |inner: &Value| {
                    let mut found = Vec::new();
                    problems(place, document, inner, root, &mut found);
                    found
                };
                let alternatives: Vec<_> = rule.as_array().expect("schemas").iter().map(broken).collect();
                if !alternatives.iter().any(Vec::is_empty) {
                    // The one that comes nearest says what is wrong.
                    found.extend(
                        alternatives.iter().min_by_key(|found| found.len()).cloned().unwrap_or_default(),
                    );
                }
                alternatives.iter().filter(|found| found.is_empty()).count() == 1
            }
            "$schema" | "title" | "description" | "$defs" => true,
            other => panic!("the schema uses `{other}`, which is not checked here"),
        };
        if !holds {
            found.push(format!("{place}: `{keyword}` does not hold"));
        }
    }
}

fn schema() -> Value {
    let text = std::fs::read_to_string(format!("{}/docs/report.schema.json", env!("CARGO_MANIFEST_DIR")));
    serde_json::from_str(&text.expect("the schema")).expect("JSON")
}

/// Fails with all of a report that is not as the schema says.
#[track_caller]
pub(crate) fn assert_schema(report: &Value) {
    let (schema, mut found) = (schema(), Vec::new());
    problems("", report, &schema, &schema, &mut found);
    assert!(found.is_empty(), "{}\n{report:#}", found.join("\n"));
}

#[test]
fn reports_are_as_the_schema_says() {
    let schema = schema();
    let scene = Scene::new();
    crate::language::llama(&scene.place);
    let tune = ["finetune", "dense.safetensors", "--rank-ratio=0.5", "--epochs=1", "--min-accuracy=0.001"];
    let mut commands = vec![
        Scene::arguments(&tune, "run"),
        Scene::arguments(&["train", "--arch=resnet8", "--epochs=1", "--prune-keep=0.5"], "scratch"),
    ];
    for command in [
        &["evaluate", "run/model.safetensors", "--data=cifar10:data", "--min-accuracy=0.9"][..],
        &["dense.safetensors", "--rank=4", "--out=factored.safetensors", "--max-keep=0.1"],
        &[&fixture("tiny-bert"), "--keep=0.6", "--dry-run"],
        &["dense.safetensors", "--keep=0.6", "--scheme=auto", "--dry-run"],
        &["dense.safetensors", "--keep=0.6", "--scheme=auto", "--out=auto.safetensors"],
        &["dense.safetensors", "--keep=0.6", "--scheme=cp", "--out=cp.safetensors"],
        &["dense.safetensors", "--keep=0.6", "--scheme=tucker", "--dry-run"],
        &["inspect", "auto.safetensors"],
        &["inspect", "dense.safetensors", "--formats"],
        &["collapse", "factored.safetensors", "--out=collapsed.safetensors"],
        &["verify", "factored.safetensors", "--against=dense.safetensors"],
        &["inspect", "run/model.safetensors"],
        &["inspect", &fixture("tiny-gpt2"), "--rank=4"],
        &["generate", &fixture("tiny-llama"), "--prompt=a"],
        &["heads", &fixture("tiny-llama"), "--output-value=0.5", "--out=narrow"],
        &["import", "llama.gguf", "--out=llama", "--tokenizer", &fixture("tiny-llama")],
    ] {
        commands.push(command.iter().map(|&text| text.to_owned()).chain(["-q".to_owned()]).collect());
    }
    for command in commands {
        let run = scene.place.run(command.iter().chain([&"--json".to_owned()]));
        let mut found = Vec::new();
        problems("", &run.json(), &schema, &schema, &mut found);
        if !found.is_empty() {
            run.fail(&found.join("\n"));
        }
    }
    for out in ["run", "scratch"] {
        let report: Value =
            serde_json::from_slice(&scene.place.read(&format!("{out}/report.json"))).expect("JSON");
        let mut found = Vec::new();
        problems("", &report, &schema, &schema, &mut found);
        assert!(found.is_empty(), "{found:?}");
    }
}
