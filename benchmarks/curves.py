"""What a DPO step costs as prompts grow longer and answers more, ours and TRL's, in a picture.

    python benchmarks/curves.py --peer-python .venv-trl/bin/python

Writes curves.json and curves.svg. Tokens are drawn at random: only their number matters here.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from bars import OURS, PEER, canvas, text
from report import machine
from versus_trl import HERE, run
from workloads import Pair, Ranking, Workload

LENGTHS = (64, 128, 256, 512, 1024)
"""Tokens of a prompt; two pairs a step, replies of ``REPLY`` tokens."""
ANSWERS = (2, 4, 6, 8)
"""Answers to each of two prompts of 256 tokens. TRL has no rankings: it gets the same answers
as pairs, each answer once, which is the least that it could read."""
REPLY, PROMPTS, TIMED = 64, 2, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer-python", default=sys.executable, help="a Python with TRL")
    parser.add_argument("--model", default="smollm2", help="a folder, a hub name, or smollm2")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of curves.json")
    given = parser.parse_args()
    points = [point("length", n, given, length=n, answers=2) for n in LENGTHS]
    points += [point("answers", k, given, length=256, answers=k) for k in ANSWERS]
    found = {"machine": machine(), "points": points}
    (given.out / "curves.json").write_text(json.dumps(found, indent=2) + "\n")
    (given.out / "curves.svg").write_text(picture(points))


def point(curve: str, at: int, given: Any, *, length: int, answers: int) -> dict[str, Any]:
    """Seconds and memory of both sides at one place of a curve."""
    from backflip.models.load import load_config, resolve

    name = resolve(given.model)
    load = drawn(name, int(load_config(name).vocab_size), length=length, answers=answers)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "workload.json"
        path.write_text(json.dumps(load))
        ours = run(sys.executable, "ours.py", "rankings" if answers > 2 else "dpo", path)
        peer = run(given.peer_python, "peer.py", "dpo", path)
    found = {
        "curve": curve,
        "at": at,
        "ours_s": sum(ours["seconds"]) / TIMED,
        "peer_s": sum(peer["seconds"]) / TIMED,
        "ours_gb": ours["gb"],
        "peer_gb": peer["gb"],
    }
    print(found, flush=True)
    return found


def drawn(model: str, vocabulary: int, *, length: int, answers: int) -> Workload:
    """Random prompts and answers: as rankings for one side, as pairs for the other."""
    rng = random.Random(length * answers)

    def tokens(number: int) -> list[int]:
        return [rng.randrange(10, vocabulary) for _ in range(number)]

    rankings: list[list[Ranking]] = [
        [
            {"prompt": tokens(length), "answers": [tokens(REPLY) for _ in range(answers)]}
            for _ in range(PROMPTS)
        ]
        for _ in range(TIMED + 1)
    ]
    pairs: list[list[Pair]] = [
        [
            {
                "prompt": row["prompt"],
                "chosen": row["answers"][i],
                "rejected": row["answers"][i + 1],
            }
            for row in batch
            for i in range(0, answers, 2)
        ]
        for batch in rankings
    ]
    return Workload(
        model=model, dtype="float32", stop=2, pad="", pairs=pairs, demonstrations=[],
        prompts=[], labels=[], rankings=rankings,
    )  # fmt: skip


# ---- the picture

WIDTH, HEIGHT, LEFT, TOP = 860, 300, 32, 48


def picture(points: list[dict[str, Any]]) -> str:
    """Two panels: seconds a step against the length of prompts, and against answers a prompt."""
    parts = list[str]()
    panels = (("length", "tokens of a prompt"), ("answers", "answers to a prompt"))
    for number, (curve, label) in enumerate(panels):
        rows = [p for p in points if p["curve"] == curve]
        parts += _panel(LEFT + number * WIDTH // 2, rows, label)
    return canvas(WIDTH, HEIGHT, parts)


def _panel(left: int, rows: list[dict[str, Any]], label: str) -> list[str]:
    width, height = WIDTH // 2 - LEFT - 116, HEIGHT - TOP - 44
    most_x, most_y = max(p["at"] for p in rows), max(p["peer_s"] for p in rows)
    x = {p["at"]: left + width * p["at"] / most_x for p in rows}
    bottom = TOP + height

    def y(seconds: float) -> float:
        return bottom - height * seconds / most_y

    parts = [
        text(left, TOP - 22, f"seconds a DPO step, by {label}", bold=True),
        f'<path d="M{left} {TOP}V{bottom}H{left + width}" fill="none" stroke="#bbb"/>',
        *[text(x[p["at"]] - 8, bottom + 18, str(p["at"])) for p in rows if _room(p["at"], most_x)],
    ]
    for side, colour, name in (("ours_s", OURS, "Backflip"), ("peer_s", PEER, "TRL")):
        line = " ".join(f"{x[p['at']]:.1f},{y(p[side]):.1f}" for p in rows)
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2.5"/>'
        )
        parts += [
            f'<circle cx="{x[p["at"]]:.1f}" cy="{y(p[side]):.1f}" r="3.5" fill="{colour}"/>'
            for p in rows
        ]
        last = rows[-1]
        parts.append(text(left + width + 8, y(last[side]) + 4, f"{name} {last[side]:.1f} s"))
    return parts


def _room(at: int, most: int) -> bool:
    """Labels that would run into their neighbours are left out."""
    return at >= most / 8


if __name__ == "__main__":
    main()
