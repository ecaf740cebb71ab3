//! `--report FILE.html`: one page that needs nothing else.

use std::collections::BTreeSet;

use crate::harness::{Place, fixture, silero};

/// Opens and closes every element in order; returns the attributes by name.
fn attributes(page: &str) -> Vec<(String, String)> {
    const VOID: [&str; 3] = ["meta", "br", "link"];
    let mut found = Vec::new();
    let mut open: Vec<String> = Vec::new();
    let mut rest = page.strip_prefix("<!doctype html>").expect("a doctype");
    while let Some(at) = rest.find('<') {
        let text = &rest[..at];
        assert!(!text.contains('>'), "a bare > in {text:?}");
        let end = at + rest[at..].find('>').expect("a tag ends");
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "closes what is open");
            continue;
        }
        let (tag, closed) = match tag.strip_suffix('/') {
            Some(tag) => (tag, true),
            None => (tag, false),
        };
        let (name, mut more) = tag.split_once(' ').unwrap_or((tag, ""));
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "{tag}");
        while let Some((attribute, value)) = more.split_once("=\"") {
            let (value, after) = value.split_once('"').expect("a quoted value");
            found.push((attribute.trim().to_owned(), value.to_owned()));
            more = after;
        }
        if !closed && !VOID.contains(&name) {
            open.push(name.to_owned());
        }
        // Their content isn't markup.
        if ["script", "style"].contains(&name) {
            let end = rest.find(&format!("</{name}>")).expect("an end");
            rest = &rest[end..];
        }
    }
    assert!(open.is_empty(), "not closed: {open:?}");
    found
}

fn assert_self_contained(page: &str) {
    let attributes = attributes(page);
    let ids: BTreeSet<&str> =
        attributes.iter().filter(|(name, _)| name == "id").map(|(_, value)| value.as_str()).collect();
    for (name, value) in &attributes {
        assert!(!["src", "srcset", "action", "data"].contains(&name.as_str()), "{name}={value}");
        if name.ends_with("href") {
            let anchor =
                value.strip_prefix('#').unwrap_or_else(|| panic!("{name}={value} leads out of the page"));
            assert!(ids.contains(anchor), "{value} leads nowhere");
        }
    }
    for outside in ["http://", "https://", "@import", "url(", "fetch(", "XMLHttpRequest", "import("] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn the_page_holds_every_layer_and_fetches_nothing() {
    for (input, out) in [(silero(), "out.safetensors"), (fixture("tiny-bert"), "out")] {
        let place = Place::new();
        let run = place
            .run([&input, "--rank=8", "--out", out, "--report=page.html", "--json", "--max-error=0.01", "-q"])
            .exits(3);
        let page = place.text("page.html");
        assert_self_contained(&page);
        let report = run.json();
        for layer in report["layers"].as_array().expect("layers") {
            let name = layer["layer"].as_str().expect("a name");
            assert!(page.contains(&format!("<figcaption>{name}<span>rank 8 of ")), "{name} has no spectrum");
            assert!(page.contains(&format!("\">{name}</a>")), "{name} is not in the table");
            assert!(page.contains(&format!("<span class=\"name\">{name}</span>")), "{name} has no bar");
        }
        for dense in report["dense"].as_array().expect("what is left dense") {
            let name = dense["layer"].as_str().expect("a name");
            assert!(page.contains(&format!("<td>{name}</td>")), "{name} is left out");
        }
        assert!(page.contains("<b>fails</b> <code>max_error</code>"));
        assert!(page.contains("prefers-color-scheme"), "readable in light and dark");
    }
}

#[test]
fn names_cannot_break_the_page() {
    let place = Place::new();
    let name = "a<script>alert(1)</script>&\"'.weight";
    place.write(
        "in.safetensors",
        crate::harness::checkpoint(&[
            (name, &[32, 32], crate::harness::elements(1, 32, 32)),
            ("b.weight", &[32, 32], crate::harness::elements(2, 32, 32)),
        ]),
    );
    place.run(["in.safetensors", "--rank=4", "--out=out.safetensors", "--report=page.html", "-q"]).exits(0);
    let page = place.text("page.html");
    assert_self_contained(&page);
    assert!(page.contains("a&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;&#39;"));
    assert!(!page.contains("alert(1)</script>"));
}

#[test]
fn the_page_is_replaced_whole_and_alone() {
    let place = Place::new();
    place.run([&silero(), "--rank=4", "--dry-run", "--report=page.html", "-q"]).exits(0);
    place.run([&silero(), "--rank=8", "--dry-run", "--report=page.html", "-q"]).exits(0);
    let page = place.text("page.html");
    assert!(page.ends_with("</html>\n") && page.contains("plan for"), "{page}");
    assert_eq!(place.names(), [std::path::PathBuf::from("page.html")], "nothing else is left");
    // The output does not depend on whether there is a page.
    place.run([&silero(), "--rank=8", "--out=a.safetensors", "--report=page.html", "-q"]).exits(0);
    place.run([&silero(), "--rank=8", "--out=b.safetensors", "-q"]).exits(0);
    assert_eq!(place.read("a.safetensors"), place.read("b.safetensors"));
}

#[test]
fn a_page_that_cannot_be_written_is_refused_before_the_work() {
    let place = Place::new();
    let bert = fixture("tiny-bert");
    std::fs::create_dir(place.join("folder")).expect("a folder");
    for (page, problem) in [
        ("out/page.html", "the page `out/page.html` lies inside the output"),
        ("out", "the page `out` lies inside the output"),
        ("folder", "`folder` is a folder, expected the name of a file"),
        ("none/page.html", "the folder `none` does not exist"),
    ] {
        place
            .refuses(1, [&bert, "--rank=8", "--out=out", "--report", page])
            .stderr(&format!("error: {problem}\n"));
    }
}

#[test]
fn a_page_inside_the_output_is_refused_however_it_is_written() {
    let place = Place::new();
    let bert = fixture("tiny-bert");
    place.run([&bert, "--rank=8", "--out=out", "-q"]).exits(0);
    for page in
        ["./out/page.html", "out/../out/page.html", &place.join("out/page.html").display().to_string()]
    {
        place
            .refuses(1, [&bert, "--rank=4", "--out=out", "--overwrite", "--report", page])
            .stderr_has("lies inside the output");
    }
}

#[test]
fn a_page_replaces_no_other_file_unless_it_is_told_to() {
    let place = Place::new();
    place.write("thesis.html", "years of work");
    let dry = [&silero(), "--rank=8", "--dry-run", "--report=thesis.html", "-q"];
    let message = "error: the page `thesis.html` would replace a file that is no such page\n";
    place.refuses(1, dry).stderr(message);
    place.refuses(1, ["inspect", &silero(), "--formats", "--report=thesis.html", "-q"]).stderr(message);
    assert_eq!(place.text("thesis.html"), "years of work");
    let told = [&silero(), "--rank=8", "--out=a.safetensors", "--report=thesis.html", "-q", "--overwrite"];
    place.run(told).exits(0);
    assert!(place.text("thesis.html").ends_with("</html>\n"));
}

#[test]
fn a_page_never_replaces_the_input() {
    let place = Place::new();
    std::fs::copy(silero(), place.join("in.safetensors")).expect("a copy");
    place
        .refuses(1, ["in.safetensors", "--rank=8", "--out=out.safetensors", "--report=in.safetensors"])
        .stderr_has("`in.safetensors`");
    crate::harness::copy_folder(fixture("tiny-bert").as_ref(), &place.join("in"));
    place.refuses(1, ["in", "--rank=8", "--out=out", "--report=in/page.html"]).stderr_has("`in");
}
