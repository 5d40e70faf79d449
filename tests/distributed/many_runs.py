"""Runs of many recipes in one start of Python: `python -m tests.distributed.many_runs FILE WAY`.

FILE holds {name: [recipe, settings]}; the run of each goes into a folder NAME/WAY beside it, with
the answers that online runs drew.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from backflip import api
from backflip.distributed.joining import joined
from tests.distributed.small import drawn_into


def main(file: Path, way: str) -> None:
    for name, (recipe, settings) in json.loads(file.read_text()).items():
        of = {k: str(file.parent / v[1:]) if str(v)[:1] == "@" else v for k, v in settings.items()}
        run = file.parent / name / way
        with drawn_into(run):
            api.train(recipe, run=run, **of)


if __name__ == "__main__":
    with joined():
        main(Path(sys.argv[1]), sys.argv[2])
