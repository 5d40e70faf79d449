"""Several runs side by side: intervals in the table, differences on the same questions."""

from __future__ import annotations

import random

from backflip.monitor.folder import read_run
from backflip.monitor.log import MetricsLog
from backflip.monitor.paired import paired_sentences
from backflip.monitor.report import compare, table
from tests.monitor.folders import save


def run(folder, scores, *, right=True, first=0, reward="exact"):
    log = MetricsLog(folder)
    log.append(1, "online", {"reward": 0.4})
    log.samples(0, [{"prompt": "Q0", "answer": "x", "score": 0.0, "kl": 0.0}])
    rows = [
        {"prompt": f"Q{i}", "answer": "x", "score": s, "kl": 0.1} | ({"right": s} if right else {})
        for i, s in enumerate(scores, start=first)
    ]
    log.samples(1, rows)
    log.close()
    mean = sum(scores) / len(scores)
    found = {"mean": mean, "low": mean - 0.08, "high": mean + 0.08, "units": len(scores)}
    summary = {f"accuracy_{end}": {"pass_at_1": found} for end in ("before", "after")}
    save(folder / "summary.json", summary)
    (folder / "recipe.yaml").write_text(f"stage: online\nreward:\n  name: {reward}\n")
    return folder.name, read_run(folder)


def shares(seed, more=0.0):
    draw, ease = random.Random(seed), random.Random(0)
    hard = [ease.random() for _ in range(160)]
    return [sum(draw.random() < h + more for _ in range(4)) / 4 for h in hard]


def test_runs_on_the_same_questions_are_compared_question_by_question(tmp_path):
    """Apart by chance alone, and apart by fifteen points, on questions of every difficulty."""
    runs = [run(tmp_path / n, shares(i, more)) for i, (n, more) in enumerate(NAMED.items())]
    chance, better = paired_sentences(runs)
    assert chance.startswith("b against a, on the same 160 questions: sampled accuracy ")
    assert chance.endswith("it may be chance.")
    assert "95 % interval" in better
    assert better.endswith("beyond chance.")
    head, rows = table(runs)
    cell = rows[0][head.index("Held-out accuracy, sampled")]
    assert cell.count("%") == 3
    assert " to " in cell
    assert chance in compare([r.folder for _, r in runs]).replace("\u00a0", " ")


NAMED = {"a": 0.0, "b": 0.0, "c": 0.15}


def test_what_cannot_be_compared_is_said(tmp_path):
    a = run(tmp_path / "a", [0.5, 1.0], right=False)
    assert "no held-out question" in paired_sentences([a, run(tmp_path / "b", [1.0], first=9)])[0]
    other = run(tmp_path / "c", [0.5, 0.5], right=False, reward="length")
    assert "different settings" in paired_sentences([a, other])[0]
    alike = run(tmp_path / "d", [0.5, 0.5], right=False)
    assert "mean score 0.50 against 0.75" in paired_sentences([a, alike])[0]
    assert paired_sentences([a, alike])[0].endswith("too few to tell.")
