"""Retired releases, which moves of an alias were rollbacks, and what MLflow has still to be told."""

import sqlalchemy
from alembic import op

from cluster.catalog.tables import metadata, retirements, untold

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    metadata.create_all(op.get_bind(), tables=[retirements, untold])
    present = {column["name"] for column in sqlalchemy.inspect(op.get_bind()).get_columns("alias_moves")}
    if "kind" not in present:  # a catalog made today has it from the first revision, which makes the tables as they are now
        op.add_column("alias_moves", sqlalchemy.Column("kind", sqlalchemy.String(16), nullable=False, server_default="move"))


def downgrade() -> None:
    op.drop_column("alias_moves", "kind")
    metadata.drop_all(op.get_bind(), tables=[retirements, untold])
