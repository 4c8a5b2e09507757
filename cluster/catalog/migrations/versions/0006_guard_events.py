"""What the guard did."""

from alembic import op

from cluster.catalog.tables import guard_events, metadata

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    metadata.create_all(op.get_bind(), tables=[guard_events])


def downgrade() -> None:
    metadata.drop_all(op.get_bind(), tables=[guard_events])
