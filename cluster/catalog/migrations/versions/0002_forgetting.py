"""What was asked to be forgotten, and what has to be made again without it."""

from alembic import op

from cluster.catalog.tables import forgotten, metadata, rebuilds

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    metadata.create_all(op.get_bind(), tables=[forgotten, rebuilds])


def downgrade() -> None:
    metadata.drop_all(op.get_bind(), tables=[forgotten, rebuilds])
