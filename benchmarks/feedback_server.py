"""A feedback server in a process of its own, for ``feedback_load.py``: the real one, on 127.0.0.1.

    python benchmarks/feedback_server.py DATABASE PORT FOLDER [CLOCK]

Writes "ready ADDRESS" when it answers. CLOCK is a file with the seconds that its clock is ahead,
read anew at every look at the clock, so that a test can let it jump.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path


def turned(file: Path) -> None:
    """Let ``time.time`` be ahead by what a file says. Before anything of ours is imported."""
    true = time.time

    def ahead() -> float:
        text = file.read_text() if file.is_file() else ""
        return true() + float(text or 0)

    time.time = ahead


def main() -> None:
    database, port, folder, *clock = sys.argv[1:]
    if clock:
        turned(Path(clock[0]))
    from backflip.server.base.settings import ServerSettings
    from backflip.server.serve import Listening, serve

    serve(
        store=database,
        listening=Listening(port=int(port)),
        settings=ServerSettings(folder=Path(folder), answers_per_minute=6000),
        open_page=False,
        ready=lambda address: print("ready", address, flush=True),
    )


if __name__ == "__main__":
    main()
