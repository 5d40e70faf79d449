"""Items may have a content warning of their own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """A column that is empty for all items so far."""
    op.add_column("items", sa.Column("warning", sa.Text(), nullable=False, server_default=""))
