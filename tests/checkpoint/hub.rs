//! Repositories of a hub, from a hub of this machine.

use std::{error::Error, fs, path::Path};

use fnl::checkpoint::{Checkpoint, CheckpointError, Hub, HubError, Source};

use crate::{
    fixture::{bytes_file, folder, message, names},
    server::{COMMIT, Manners, Server},
};

const ONE: &str = "model-00001-of-00002.safetensors";
const TWO: &str = "model-00002-of-00002.safetensors";

fn hub(server: &Server, cache: &Path) -> Hub {
    Hub { endpoint: server.endpoint.clone(), cache: cache.to_owned(), token: None, offline: false }
}

fn single() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("config.json", br#"{"model_type":"bert"}"#.to_vec()),
        ("model.safetensors", bytes_file(&[("a", 5000)], "")),
        ("onnx/model.onnx", b"x".to_vec()),
        ("pytorch_model.bin", b"x".to_vec()),
        ("sub/empty.txt", Vec::new()),
        ("tokenizer.json", b"{}".to_vec()),
    ]
}

fn open(hub: &Hub) -> Result<Checkpoint, CheckpointError> {
    Checkpoint::open_hub(hub, "org/name", "main")
}

fn said(hub: &Hub) -> (String, CheckpointError) {
    match open(hub) {
        Ok(checkpoint) => panic!("opened {checkpoint:?}"),
        Err(error) => (message(&error, &hub.cache).replace(&hub.endpoint, "HUB"), error),
    }
}

#[test]
fn what_is_needed_is_downloaded_once() {
    let folder = folder();
    let server = Server::start(&single(), Manners::default());
    let hub = hub(&server, folder.path());
    let checkpoint = open(&hub).unwrap();
    let source = Source::Hub { repository: "org/name".to_owned(), revision: "main".to_owned() };
    assert_eq!(checkpoint.source(), &source);
    assert_eq!(checkpoint.bytes(checkpoint.get("a").unwrap()).unwrap()[..3], [0, 1, 2]);
    assert_eq!(checkpoint.config().unwrap()["model_type"], "bert");
    let wanted = ["config.json", "model.safetensors", "sub/empty.txt", "tokenizer.json"];
    assert_eq!(server.downloads(), wanted);
    let copied = checkpoint.side_files().unwrap().copied;
    assert_eq!(copied, ["config.json", "sub/empty.txt", "tokenizer.json"].map(Path::new));
    // The cache is as other tools expect it.
    let repository = folder.path().join("models--org--name");
    assert_eq!(checkpoint.root(), repository.join("snapshots").join(COMMIT));
    assert_eq!(fs::read_to_string(repository.join("refs/main")).unwrap(), COMMIT);

    let before = server.requests().len();
    open(&hub).unwrap();
    assert_eq!(server.requests()[before..], ["GET /api/models/org/name/revision/main"]);
}

#[test]
fn without_the_network_the_cache_serves() {
    let folder = folder();
    let server = Server::start(&single(), Manners::default());
    let online = hub(&server, folder.path());
    let offline = Hub { offline: true, ..online.clone() };
    let (text, error) = said(&offline);
    assert_eq!(
        text,
        "`model.safetensors` of `org/name`, revision `main`, is not in the cache `DIR`, and HF_HUB_OFFLINE is set"
    );
    assert_eq!(error.hint().unwrap(), "unset HF_HUB_OFFLINE to download it");
    open(&online).unwrap();
    let before = server.requests().len();
    assert!(open(&offline).unwrap().get("a").is_some());
    // By its commit as well.
    assert!(Checkpoint::open_hub(&offline, "org/name", COMMIT).unwrap().get("a").is_some());
    assert_eq!(server.requests().len(), before);
}

#[test]
fn of_a_sharded_repository_only_the_shards_of_the_index() {
    let folder = folder();
    let index = format!(r#"{{"metadata":{{}},"weight_map":{{"a":"{ONE}","b":"{TWO}"}}}}"#);
    let files = [
        ("consolidated.safetensors", b"x".to_vec()),
        (ONE, bytes_file(&[("a", 10)], "")),
        (TWO, bytes_file(&[("b", 20)], "")),
        ("model.safetensors.index.json", index.into_bytes()),
    ];
    let server = Server::start(&files, Manners::default());
    let online = hub(&server, folder.path());
    assert_eq!(open(&online).unwrap().tensors().len(), 2);
    assert_eq!(server.downloads(), [ONE, TWO, "model.safetensors.index.json"]);

    // A shard that has gone from the cache is named.
    let snapshot = folder.path().join("models--org--name/snapshots").join(COMMIT);
    fs::remove_file(snapshot.join(TWO)).unwrap();
    let (text, _) = said(&Hub { offline: true, ..online });
    assert!(
        text.starts_with(&format!("`{TWO}` of `org/name`, revision `main`, is not in the cache")),
        "{text}"
    );
}

#[test]
fn a_shard_that_the_repository_lacks_is_reported() {
    let folder = folder();
    let index = format!(r#"{{"weight_map":{{"a":"{ONE}","b":"{TWO}"}}}}"#);
    let files = [(ONE, bytes_file(&[("a", 10)], "")), ("model.safetensors.index.json", index.into_bytes())];
    let server = Server::start(&files, Manners::default());
    let (text, _) = said(&hub(&server, folder.path()));
    assert!(text.ends_with(&format!("the shard `{TWO}` is missing, 1 tensor should be in it")), "{text}");
}

#[test]
fn other_revisions() {
    let folder = folder();
    let server = Server::start(&single(), Manners::default());
    let hub = hub(&server, folder.path());
    assert!(Checkpoint::open_hub(&hub, "org/name", "refs/pr/1").is_ok());
    assert!(folder.path().join("models--org--name/refs/refs/pr/1").is_file());
    let error = Checkpoint::open_hub(&hub, "org/name", "v9").unwrap_err();
    assert_eq!(
        error.to_string().replace(&server.endpoint, "HUB"),
        "`org/name` with revision `v9` was not found at HUB"
    );
    assert_eq!(error.hint().unwrap(), "check the name and, after `@`, the revision");
    let error = Checkpoint::open_hub(&hub, "org/name", "../../x").unwrap_err();
    assert!(matches!(error, CheckpointError::Hub(HubError::Name(_))), "{error}");
}

#[test]
fn large_files_come_from_elsewhere() {
    let folder = folder();
    let server = Server::start(&single(), Manners { redirect: true, ..Manners::default() });
    assert!(open(&hub(&server, folder.path())).unwrap().get("a").is_some());
    assert!(server.requests().contains(&"GET /elsewhere/model.safetensors".to_owned()));
}

#[test]
fn a_broken_connection_is_resumed() {
    let folder = folder();
    let manners = Manners { break_once: Some("model.safetensors".to_owned()), ..Manners::default() };
    let server = Server::start(&single(), manners);
    let checkpoint = open(&hub(&server, folder.path())).unwrap();
    let bytes = checkpoint.bytes(checkpoint.get("a").unwrap()).unwrap();
    assert!(bytes.iter().enumerate().all(|(index, &byte)| byte == (index % 251) as u8));
}

#[test]
fn the_token_is_sent_and_its_lack_explained() {
    let folder = folder();
    let server = Server::start(&single(), Manners { token: Some("secret".to_owned()), ..Manners::default() });
    let anonymous = hub(&server, folder.path());
    let (text, error) = said(&anonymous);
    assert_eq!(text, "HUB refuses access to `org/name` without a token");
    assert_eq!(error.hint().unwrap(), "check the name; for a private or gated repository set HF_TOKEN");
    let (text, _) = said(&Hub { token: Some("wrong".to_owned()), ..anonymous.clone() });
    assert_eq!(text, "HUB refuses access to `org/name` with this token");
    assert_eq!(names(folder.path()), [""; 0]);
    assert!(open(&Hub { token: Some("secret".to_owned()), ..anonymous }).is_ok());
}

#[test]
fn a_gated_repository_says_where_its_conditions_are() {
    let folder = folder();
    let server = Server::start(&single(), Manners { gated: true, ..Manners::default() });
    let (_, error) = said(&Hub { token: Some("x".to_owned()), ..hub(&server, folder.path()) });
    let hint = error.hint().unwrap();
    assert_eq!(hint, format!("accept the conditions at {}/org/name, or use another token", server.endpoint));
}

#[test]
fn hubs_that_are_none() {
    let folder = folder();
    let server = Server::start(&single(), Manners { headless: true, ..Manners::default() });
    let (text, error) = said(&hub(&server, folder.path()));
    assert_eq!(text, "HUB did not answer as a hub does, asked for `config.json`");
    assert_eq!(error.hint().unwrap(), "check HF_ENDPOINT");

    let server =
        Server::start(&single(), Manners { phantom: Some("gone.txt".to_owned()), ..Manners::default() });
    let (text, _) = said(&hub(&server, folder.path()));
    assert_eq!(text, "the hub lists `gone.txt` in `org/name`, and has no such file");

    let evil = Manners { phantom: Some("../../../evil".to_owned()), ..Manners::default() };
    let server = Server::start(&single(), evil);
    let (text, _) = said(&hub(&server, folder.path()));
    assert_eq!(text, "`org/name` has a file with the path `../../../evil`, which leads out of its folder");

    // Nobody listens at a port that was just given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = Hub { endpoint: format!("http://127.0.0.1:{port}"), ..hub(&server, folder.path()) };
    let (text, error) = said(&nobody);
    assert_eq!(text, "cannot get the files of `org/name` from HUB");
    assert!(error.source().is_some());
    assert!(error.hint().unwrap().contains("HF_HUB_OFFLINE=1"));
}

#[test]
fn a_repository_without_safetensors_downloads_no_weights() {
    let folder = folder();
    let files = [("config.json", b"{}".to_vec()), ("pytorch_model.bin", b"PK".to_vec())];
    let server = Server::start(&files, Manners::default());
    let (text, error) = said(&hub(&server, folder.path()));
    assert_eq!(
        text,
        "`hf://org/name` has weights in other formats only (`pytorch_model.bin`), expected safetensors"
    );
    assert!(error.hint().unwrap().contains("torch.load("));
    assert_eq!(server.downloads(), ["config.json"]);
}
