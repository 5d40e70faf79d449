"""``benchmarks/on_cuda.py`` without a device: the same way, with tiny models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PEER = Path(os.environ.get("BACKFLIP_PEER_PYTHON", ROOT / ".venv-peer" / "bin" / "python"))
"""A Python with TRL, where there is one: without it our side runs alone."""
COMPARISONS = [
    {
        "prompt": f"Name a number above {n}, and say why you like it.",
        "chosen": f"I like {n + 1}, for it comes next.",
        "rejected": f"No number is above {n}.",
    }
    for n in range(80)
]

pytestmark = pytest.mark.slow


@pytest.fixture
def dry_run(tmp_path: Path) -> Any:
    def run(*arguments: str) -> tuple[int, str, list[dict[str, Any]], str]:
        data, out = tmp_path / "pairs.jsonl", tmp_path / "out"
        data.write_text("\n".join(map(json.dumps, COMPARISONS)))
        peer = ("--peer-python", str(PEER)) if PEER.is_file() else ("--no-peer",)
        command = [sys.executable, str(ROOT / "benchmarks" / "on_cuda.py"), "--dry-run", *peer]
        command += ["--data", str(data), "--out", str(out), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        written, page = out / "cuda.json", out / "cuda.md"
        rows = json.loads(written.read_text()) if written.is_file() else []
        said = page.read_text() if page.is_file() else ""
        return done.returncode, done.stdout + done.stderr, rows, said

    return run


def test_a_dry_run_makes_the_rows_that_were_asked_for(dry_run: Any):
    """All three sizes and works; the share is that of work really done, so it is below 1."""
    code, said, rows, page = dry_run("--rows", "dpo:3B", "grpo:0.5B", "sft:8B")
    assert code == 0, said
    assert "its numbers mean nothing" in said
    assert "whose numbers mean nothing" in page
    assert [(row["key"], row["size"], row["lora"]) for row in rows] == [
        ("dpo", "3B", False), ("grpo", "0.5B", False), ("sft", "8B", True),
    ]  # fmt: skip
    for row in rows:
        assert 0 < row["share_of_product_rate"] < 1
        assert row["work"] in page
        assert ("speedup" in row) == PEER.is_file()


def test_rows_that_the_minutes_do_not_hold_are_named(dry_run: Any):
    code, said, rows, _ = dry_run("--minutes", "0.5", "--rows", "dpo:3B", "sft:8B")
    assert (code, rows) == (1, [])
    assert "left out: dpo:3B" in said
    assert "to make these: --rows dpo:3B sft:8B" in said
