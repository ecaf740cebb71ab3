//! Parallel texts: files of pairs, a vocabulary learned from them, and batches.

use fnl::data::{PairBatches, ParallelSource, SPECIAL_TOKENS, TextTokenizer};
use std::fs;
use std::path::Path;

fn source(folder: &Path, names: [&str; 2]) -> ParallelSource {
    let [source, target] = names.map(|name| folder.join(name));
    let text = format!("parallel:{},{}", source.display(), target.display());
    assert!(ParallelSource::is_named_by(&text));
    text.parse().unwrap()
}

#[test]
fn pairs_are_lines_of_one_number() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("train.de", "Ein Hund.\r\n Zwei Hunde. \n");
    write("train.en", "A dog.\nTwo dogs.");
    write("dev.de", "Eine Katze.\n");
    write("dev.en", "A cat.\n");
    let source = source(folder.path(), ["{split}.de", "{split}.en"]);
    let pairs = source.pairs(true).unwrap();
    assert_eq!(
        pairs,
        [["Ein Hund.", "A dog."], ["Zwei Hunde.", "Two dogs."]].map(|pair| pair.map(str::to_owned))
    );
    assert_eq!(source.pairs(false).unwrap(), [["Eine Katze.".to_owned(), "A cat.".to_owned()]]);
}

#[test]
fn files_that_are_no_pairs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in
        [("two", "one\ntwo\n"), ("three", "one\ntwo\nthree\n"), ("gap", "one\n\n"), ("nothing", "\n\n")]
    {
        fs::write(folder.path().join(name), text).unwrap();
    }
    fs::write(folder.path().join("latin"), b"one\nz\xfcrich\n").unwrap();
    for (names, part) in [
        (["two", "three"], "two` has 2 lines, `"),
        (["two", "three"], "three` 3; each line"),
        (["two", "gap"], "gap`, line 2: it is empty"),
        (["nothing", "two"], "nothing` holds no text"),
        (["latin", "two"], "latin`, line 2: it is not UTF-8"),
        (["{split}", "two"], "val`"),
    ] {
        let error = source(folder.path(), names).pairs(false).unwrap_err().to_string();
        assert!(error.contains(part), "{names:?}: {error}");
    }
    for text in ["parallel:a", "parallel:a,", "parallel:,b", "parallel:a,b,c", "text:a,b"] {
        let error = text.parse::<ParallelSource>().unwrap_err().to_string();
        assert!(error.contains(&format!("`{text}`")) && error.contains("parallel:SOURCE,TARGET"), "{error}");
    }
}

/// Sentences of a few words in all orders.
fn sentences() -> Vec<String> {
    let (who, what, how) =
        (["der Hund", "die Katze", "ein Vögelchen"], ["rennt", "schläft"], ["schnell", "gern"]);
    let mut found = Vec::new();
    for who in who {
        for what in what {
            found.extend(how.map(|how| format!("{who} {what} {how}.")));
        }
    }
    found
}

#[test]
fn vocabularies_are_learned_the_same_each_time_and_give_texts_back() {
    let texts = sentences();
    let tokenizer = TextTokenizer::learn(&texts, 300).unwrap();
    assert_eq!(tokenizer.vocabulary(), 300);
    assert_eq!(SPECIAL_TOKENS.map(|token| tokenizer.token(token)), [Some(0), Some(1), Some(2)]);
    let json = tokenizer.to_json().unwrap();
    assert_eq!(json, TextTokenizer::learn(&texts, 300).unwrap().to_json().unwrap());
    // what was not in the texts is spelled by bytes
    let more = ["Ein Hündchen: 3,5 € \u{1f415}", "der Hund"].map(str::to_owned);
    let encoded = tokenizer.encode(&more).unwrap();
    for (text, tokens) in more.iter().zip(&encoded) {
        assert_eq!(tokens.iter().filter(|&&token| token < 3).collect::<Vec<_>>(), [&1]);
        assert_eq!(tokens.last(), Some(&1));
        assert_eq!(tokenizer.decode(tokens).unwrap().trim_start(), text);
    }
    assert!(encoded[1].len() <= 5, "a learned word is few tokens: {:?}", encoded[1]);
    // read again from a folder, and cut
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tokenizer.json"), json).unwrap();
    let again = TextTokenizer::open(folder.path(), 512).unwrap();
    assert_eq!(again.encode(&more).unwrap(), encoded);
    let cut = again.with_longest(4).unwrap().encode(&more).unwrap();
    assert_eq!(cut[0], [&encoded[0][..3], &[1]].concat());
    for (size, part) in [(200, "are 259"), (5000, "the texts give")] {
        let error = TextTokenizer::learn(&texts, size).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn batches_hold_every_pair_once_within_their_tokens() {
    let lengths: Vec<[usize; 2]> = (0..500).map(|i| [1 + (i * 37) % 29, 1 + (i * 53) % 31]).collect();
    let batches = PairBatches::new(&lengths, 200, 5);
    let first = batches.epoch(0);
    assert_eq!(first, PairBatches::new(&lengths, 200, 5).epoch(0));
    let others = [batches.epoch(1), PairBatches::new(&lengths, 200, 6).epoch(0), batches.by_length()];
    for epoch in [&first].into_iter().chain(&others) {
        assert_eq!(epoch.len(), batches.per_epoch());
        let mut all = epoch.concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..500));
        let longest = |batch: &Vec<usize>| batch.iter().map(|&i| lengths[i][0].max(lengths[i][1])).collect();
        let sizes: Vec<Vec<usize>> = epoch.iter().map(longest).collect();
        assert!(sizes.iter().all(|sizes| sizes.iter().sum::<usize>() <= 200));
        // of like length, and hardly any batch is far from full
        assert!(sizes.iter().all(|sizes| sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 12));
        assert!(sizes.iter().filter(|sizes| sizes.iter().sum::<usize>() < 165).count() <= 1);
    }
    assert!(others.iter().all(|other| *other != first));
    // a pair of more tokens than a batch has its own
    assert_eq!(PairBatches::new(&[[9, 1], [1, 1], [2, 2]], 4, 0).by_length(), [vec![1, 2], vec![0]]);
    assert_eq!(PairBatches::new(&[], 4, 0).per_epoch(), 0);
}
