"""Records what sacrebleu computes: `sacrebleu_cases.json`, read by `bleus.rs`.

    python tests/train/sacrebleu_cases.py

Needs sacrebleu (recorded with 2.6.0).
"""

import json
from pathlib import Path

import sacrebleu

# translations and references, a corpus a line
CASES = [
    (["The cat sat on the mat."], ["The cat sat on the mat."]),
    (["The cat sat on the mat."], ["A cat was sitting on the mat."]),
    (["the CAT sat on the mat"], ["The cat sat on the mat"]),
    ([""], ["Nothing was said."]),
    (["", "A man in a blue shirt is standing on a ladder."], ["A dog.", "A man in a blue shirt stands on a ladder."]),
    (["Something."], [""]),
    (["One word"], ["One word"]),
    (["Yes"], ["No"]),
    (["a b c d"], ["d c b a"]),
    (["the the the the the the the"], ["the cat is on the mat"]),
    (['He said: "It\'s 3,000.50 dollars (or so)!"'], ["He said: &quot;It's 3,000.50 dollars (or so)!&quot;"]),
    (["R&amp;D costs 5-10% more - see §4, p.12.", "x<y && y>z"], ["R&D costs 5 - 10% more, see § 4, p. 12.", "x < y &amp;&amp; y > z"]),
    (["Ein Mann in grünem T-Shirt läuft über die Straße ."], ["Ein Mann in einem grünen T-Shirt geht über die Straße."]),
    (
        ["Two young men are outside near many bushes.", "Several men are working.", "A little girl climbing into a wooden playhouse."],
        ["Two young, White males are outside near many bushes.", "Several men in hard hats are operating a giant pulley system.", "A little girl climbing into a wooden playhouse."],
    ),
    (["a dog runs", "a cat sleeps on a red sofa near the window today"], ["a dog is running on the beach", "a cat sleeps on a sofa"]),
    (["tabs\tand  many   spaces end-\n", "line\u2028ends\x1chere"], ["tabs and many spaces end-", "line ends here"]),
    (["...", "1.5.2, 3,,4"], ["...", "1.5.2 , 3 , , 4"]),
    (["<skipped> [a] {b} ~c^ d_e `f` \\ g/h"], ["[ a ] { b } ~ c ^ d _ e ` f ` \\ g / h"]),
]


def main() -> None:
    runs = []
    for hypotheses, references in CASES:
        b = sacrebleu.corpus_bleu(hypotheses, [references])
        runs.append(
            dict(
                hypotheses=hypotheses,
                references=references,
                score=b.score,
                precisions=b.precisions,
                brevity_penalty=b.bp,
                tokens=[b.sys_len, b.ref_len],
            )
        )
    lines = [json.dumps(run) for run in runs]
    Path(__file__).with_suffix(".json").write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
