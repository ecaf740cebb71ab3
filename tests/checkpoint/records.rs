//! The factorization record as text.

use fnl::checkpoint::{ModuleRecord, Record};
use serde_json::json;

fn module() -> ModuleRecord {
    ModuleRecord {
        kind: "conv2d".to_owned(),
        scheme: "spatial".to_owned(),
        rank: 3,
        ranks: vec![2, 3],
        pairs: vec![[4, 2], [2, 2]],
        shape: vec![8, 4, 3, 3],
        dtype: "BF16".to_owned(),
        relative_error: 0.312_7,
        parameter: Some("conv.kernel".to_owned()),
        stride: Some([2, 1]),
        padding: Some([1, 1]),
        dilation: Some([1, 1]),
        groups: Some(1),
        tied_with: vec!["other.weight".to_owned()],
    }
}

#[test]
fn all_fields_come_back_and_keys_are_sorted_on_every_level() {
    let record = Record {
        version: 1,
        tool: "fnl 0.1.0".to_owned(),
        modules: [("b".to_owned(), module()), ("a".to_owned(), ModuleRecord::default())].into(),
        converted: [].into(),
        recalibrated: vec!["bn.running_mean".to_owned()],
        config: [].into(),
        recipe: json!({"z": 1, "rules": [{"target": "x", "rank": 4}], "a": {"q": 1, "b": 2}}),
    };
    let text = record.to_json();
    assert_eq!(Record::parse(&text).unwrap(), record);
    assert!(text.ends_with(
        r#""recalibrated":["bn.running_mean"],"recipe":{"a":{"b":2,"q":1},"rules":[{"rank":4,"target":"x"}],"z":1},"tool":"fnl 0.1.0","version":1}"#
    ));
    let expected = concat!(
        r#""b":{"dilation":[1,1],"dtype":"BF16","groups":1,"kind":"conv2d","padding":[1,1],"#,
        r#""pairs":[[4,2],[2,2]],"parameter":"conv.kernel","rank":3,"ranks":[2,3],"relative_error":0.3127,"scheme":"spatial","#,
        r#""shape":[8,4,3,3],"stride":[2,1],"tied_with":["other.weight"]}"#
    );
    assert!(text.contains(expected), "{text}");
}

#[test]
fn what_is_wrong_with_a_record_is_named() {
    let said = |text: &str| Record::parse(text).unwrap_err().to_string();
    let base = json!({"version": 1, "tool": "t", "modules": {}, "recipe": {}});
    let with = |field: &str, value: serde_json::Value| {
        let mut changed = base.clone();
        changed[field] = value;
        said(&changed.to_string())
    };
    assert_eq!(
        said("{"),
        "the factorization record is not JSON: EOF while parsing an object at line 1 column 1"
    );
    assert_eq!(said("3"), "the factorization record is not JSON: expected an object");
    assert_eq!(said("{}"), "the factorization record has no valid `version`: missing");
    assert_eq!(with("version", json!(2)), "the factorization record has version 2, expected 1");
    assert_eq!(with("version", json!("1")), "the factorization record has version \"1\", expected 1");
    assert_eq!(with("tool", json!(1)), "the factorization record has no valid `tool`: expected a string");
    assert_eq!(
        with("modules", json!([])),
        "the factorization record has no valid `modules`: expected an object"
    );
    assert_eq!(
        with("modules", json!({"fc1": {"kind": "linear", "scheme": "matrix"}})),
        "the factorization record has no valid `modules.fc1`: missing field `rank`"
    );
    assert_eq!(
        said(r#"{"version":1,"tool":"t","modules":{}}"#),
        "the factorization record has no valid `recipe`: missing"
    );
}
