"""Schema revisions (Alembic). ``HEAD`` is checked against the scripts by a test, so that opening a catalog need not import them."""

from pathlib import Path
from typing import Any

HEAD = "0007"


def upgrade(connection: Any, revision: str = "head") -> None:
    """Run the migrations up to ``revision`` on an open connection; the caller commits."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
