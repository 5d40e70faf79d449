"""The schema of the first release. Revisions 0001 to 0003 came before it and were not released."""

from __future__ import annotations

revision = "0004"
down_revision = None


def upgrade() -> None:
    """Nothing to change: a database is made with this schema, or had it before."""
