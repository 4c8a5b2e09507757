"""The key that this machine's own command line and jobs use: made once, kept in the home, readable by its owner only."""

from cluster.artifacts import write_whole
from cluster.catalog import Catalog, users
from cluster.domain.users import key_hash, new_key
from cluster.settings import Settings

OWN_USER = "operator"


def own_key(settings: Settings, catalog: Catalog) -> str:
    """The home's own admin key; made when there is none, or when the catalog does not know it (any more)."""
    file = settings.home / "cli_key"
    if file.is_file():
        text = file.read_text().strip()
        with catalog.reading() as work:
            if users.find_key(work, key_hash(text)) is not None:
                return text
    text, record = new_key(OWN_USER, "admin")
    with catalog.transaction() as work:
        users.save_key(work, record)
    write_whole(file, text.encode())
    file.chmod(0o600)
    return text
