"""Experiments, and what they counted."""

from alembic import op

from cluster.catalog.tables import experiments, metadata, trials

revision = "0007"
down_revision = "0006"
_TABLES = [experiments, trials]


def upgrade() -> None:
    metadata.create_all(op.get_bind(), tables=_TABLES)


def downgrade() -> None:
    metadata.drop_all(op.get_bind(), tables=_TABLES)
