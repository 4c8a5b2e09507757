"""Answers kept for their idempotency key, and what the replicas count."""

from alembic import op

from cluster.catalog.tables import answered_once, metadata, meters

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    metadata.create_all(op.get_bind(), tables=[answered_once, meters])


def downgrade() -> None:
    metadata.drop_all(op.get_bind(), tables=[answered_once, meters])
