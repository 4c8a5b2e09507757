"""Alembic's entry: runs the revisions on the connection that ``upgrade`` handed over."""

from alembic import context

from cluster.catalog.tables import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True, transactional_ddl=False
)
context.run_migrations()
