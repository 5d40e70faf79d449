"""``python -m backflip`` is ``backflip``."""

from __future__ import annotations

from backflip.cli.main import main

if __name__ == "__main__":
    main()
