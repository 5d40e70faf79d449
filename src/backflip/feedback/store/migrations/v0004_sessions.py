"""Sessions can be ended, and tries at passwords are counted, for all processes of a server."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Two tables, empty."""
    op.create_table(
        "ended_sessions",
        sa.Column("nonce_hash", sa.String(64), primary_key=True),
        sa.Column("until", sa.Double(), nullable=False),
    )
    op.create_index("ended_sessions_by_age", "ended_sessions", ["until"])
    op.create_table(
        "tries",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("level", sa.Double(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("right", sa.Double(), nullable=True),
    )
    op.create_index("tries_by_age", "tries", ["at"])
