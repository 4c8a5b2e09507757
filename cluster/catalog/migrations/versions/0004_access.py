"""Users, sessions, the audit log (which nobody can rewrite), live settings, shared counts, and when a key was last used."""

import sqlalchemy
from alembic import op

from cluster.catalog.tables import audit, live_settings, metadata, sessions, usage, users

revision = "0004"
down_revision = "0003"
_TABLES = [users, sessions, audit, live_settings, usage]


def upgrade() -> None:
    bind = op.get_bind()
    metadata.create_all(bind, tables=_TABLES)
    present = {column["name"] for column in sqlalchemy.inspect(bind).get_columns("api_keys")}
    if (
        "last_used_at" not in present
    ):  # a catalog made today has it from the first revision, which makes the tables as they are now
        op.add_column("api_keys", sqlalchemy.Column("last_used_at", sqlalchemy.DateTime(timezone=True)))
    if bind.dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER IF NOT EXISTS audit_no_{verb.lower()} BEFORE {verb} ON audit "
                "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
            )
    else:
        op.execute(
            "CREATE OR REPLACE FUNCTION audit_stays() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$"
        )
        op.execute("DROP TRIGGER IF EXISTS audit_stays ON audit")
        op.execute(
            "CREATE TRIGGER audit_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_stays()"
        )


def downgrade() -> None:
    metadata.drop_all(op.get_bind(), tables=_TABLES)
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION IF EXISTS audit_stays()")
    op.drop_column("api_keys", "last_used_at")
