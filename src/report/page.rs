//! The frame of a page: style for light and dark, and tables that sort.

/// What tells a page from others' files.
pub(crate) const GENERATOR: &str = "<meta name=\"generator\" content=\"fnl\">";

const STYLE: &str = "
:root { color-scheme: light dark; --back: #fbfbfa; --card: #fff; --text: #1d2326; --faint: #5c666b; --line: #dde1e2;
  --before: #b9c3c8; --after: #0f766e; --cut: #b4530a; --good: #15703c; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --back: #14181a; --card: #1c2225; --text: #e6eaeb; --faint: #9aa5aa;
  --line: #313a3e; --before: #56636a; --after: #3fc1b4; --cut: #f0a35e; --good: #63c98a; --bad: #f28b82; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem 1rem 4rem; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
header p, section > p { color: var(--faint); margin: .25rem 0 .75rem; } code, pre { font-family: ui-monospace, monospace; font-size: .9em; }
a { color: inherit; text-decoration-color: var(--line); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: .75rem; margin-top: 1rem; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .7rem .9rem; overflow-wrap: anywhere; }
.tile span { display: block; color: var(--faint); font-size: .85rem; } .tile strong { font-size: 1.4rem; font-weight: 600; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; background: var(--card); }
table { border-collapse: collapse; width: 100%; font-size: .88rem; } th, td { padding: .3rem .7rem; text-align: left; white-space: nowrap; }
tbody tr + tr td { border-top: 1px solid var(--line); } thead th { border-bottom: 1px solid var(--line); }
.number { text-align: right; font-variant-numeric: tabular-nums; }
th button { all: unset; cursor: pointer; font-weight: 600; } th button:focus-visible { outline: 2px solid var(--after); }
th[aria-sort=ascending] button::after { content: ' \\2191'; } th[aria-sort=descending] button::after { content: ' \\2193'; }
.legend i { display: inline-block; width: .9em; height: .9em; border-radius: 2px; vertical-align: -.1em; margin: 0 .3em 0 .8em; }
figcaption .legend .key { display: inline-block; white-space: nowrap; }
i.before { background: var(--before); } i.after { background: var(--after); }
.bar { display: grid; grid-template-columns: minmax(8rem, 22rem) 1fr 9.5rem; gap: .75rem; align-items: center; font-size: .85rem; padding: .12rem 0; }
.bar .name { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; direction: rtl; text-align: left; unicode-bidi: plaintext; }
.track { position: relative; height: .95rem; } .track i { position: absolute; left: 0; top: 0; height: 100%; border-radius: 2px; min-width: 1px; }
.track i.after { top: 25%; height: 50%; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); gap: .75rem; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .6rem .7rem; }
figure:target { border-color: var(--after); }
figcaption { font-size: .82rem; overflow-wrap: anywhere; min-height: 2.6em; } figcaption span { display: block; color: var(--faint); }
svg { width: 100%; height: auto; } svg text { fill: var(--faint); font-size: 9px; } .grid { stroke: var(--line); stroke-width: .6; }
.curve { fill: none; stroke: var(--after); stroke-width: 1.4; } .kept { fill: var(--after); opacity: .18; } .cut { stroke: var(--cut); stroke-width: 1.2; }
.checks { list-style: none; padding: 0; } .holds b { color: var(--good); } .fails b { color: var(--bad); }
pre { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .8rem; }
@media (max-width: 40rem) { .bar { grid-template-columns: 1fr; gap: .1rem; padding: .35rem 0; } .bar .number { text-align: left; } }
@media print { th button { cursor: default; } figure, .tile { break-inside: avoid; } }
";

const SCRIPT: &str = "
for (const table of document.querySelectorAll('table.sortable')) {
  const body = table.tBodies[0];
  table.querySelectorAll('th').forEach((head, column) => head.querySelector('button').addEventListener('click', () => {
    const down = head.getAttribute('aria-sort') === 'ascending';
    table.querySelectorAll('th').forEach(other => other.removeAttribute('aria-sort'));
    head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
    const key = row => { const cell = row.cells[column]; return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value); };
    const order = (a, b) => typeof a === 'number' ? a - b : a.localeCompare(b, 'en', { numeric: true });
    [...body.rows].sort((a, b) => (down ? -1 : 1) * order(key(a), key(b))).forEach(row => body.append(row));
  }));
}
";

/// A whole document around a body.
pub(super) fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n{GENERATOR}\n<title>{}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n{body}<script>{SCRIPT}</script>\n</body>\n</html>\n",
        escape(title)
    )
}

/// Text that may stand in an element or an attribute.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
