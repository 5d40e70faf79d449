"""Writes ``truthfulqa_lm_eval.json``: MC1 and MC2 of a model by lm-evaluation-harness, row by row.

    pip install lm-eval      # in an environment of its own
    python truthfulqa_lm_eval.py MODEL_FOLDER truthfulqa_mc.jsonl.gz --limit 12

The tasks are the harness's own truthfulqa_mc1 and truthfulqa_mc2; only the rows are given to them.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.metadata
import json
import tempfile
from pathlib import Path

import lm_eval
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--limit", type=int, default=12)
    given = parser.parse_args()
    with gzip.open(given.data, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line, _ in zip(file, range(given.limit), strict=False)]
    with tempfile.TemporaryDirectory() as folder:
        found = measured(given.model, rows, Path(folder))
    about = f"lm_eval {importlib.metadata.version('lm_eval')}, SmolLM2-135M-Instruct (Q4_1), CPU"
    out = Path(__file__).with_suffix(".json")
    out.write_text(json.dumps({"source": about, **found}) + "\n", encoding="utf-8")
    print(about, {name: sum(x) / len(x) for name, x in found.items()})  # noqa: T201


def measured(model: str, rows: list[dict], folder: Path) -> dict[str, list[float]]:
    data = folder / "rows.jsonl"
    with data.open("w", encoding="utf-8") as file:
        for row in rows:
            kept = {
                f"{kind}_targets": {"choices": list(row[kind]), "labels": list(row[kind].values())}
                for kind in ("mc1", "mc2")
            }
            file.write(json.dumps({"question": row["question"], **kept}) + "\n")
    tasks = Path(lm_eval.__file__).parent / "tasks" / "truthfulqa"
    names = []
    for kind in ("mc1", "mc2"):
        names.append(f"rows_{kind}")
        (folder / f"{kind}.yaml").write_text(
            f"include: {tasks / f'truthfulqa_{kind}.yaml'}\ntask: rows_{kind}\ntag: []\n"
            f"dataset_path: json\ndataset_name: null\n"
            f"dataset_kwargs:\n  data_files:\n    validation: {data}\n"
        )
    result = lm_eval.simple_evaluate(
        model=HFLM(pretrained=model, device="cpu", dtype="float32", batch_size=8),
        tasks=names,
        task_manager=TaskManager(include_path=str(folder)),
        log_samples=True,
    )
    return {
        kind: [
            float(s["acc"])
            for s in sorted(result["samples"][f"rows_{kind}"], key=lambda s: s["doc_id"])
        ]
        for kind in ("mc1", "mc2")
    }


if __name__ == "__main__":
    main()
