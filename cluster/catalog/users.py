"""API keys and whose they are."""

from sqlalchemy import select, update

from cluster.catalog.tables import api_keys
from cluster.catalog.transaction import Work
from cluster.domain.users import ApiKey
from cluster.errors import NotFound


def save_key(work: Work, key: ApiKey) -> None:
    """Keep a key's record."""
    work.put(api_keys, {"hash": key.hash, "user": key.user, "revoked": key.revoked, "body": key.model_dump(mode="json")})


def find_key(work: Work, digest: str) -> ApiKey | None:
    """The key with this SHA-256, unless it is unknown or revoked."""
    statement = select(api_keys.c.body).where(api_keys.c.hash == digest, api_keys.c.revoked.is_(False))
    return work.body(ApiKey, statement)


def keys(work: Work) -> list[ApiKey]:
    """All keys' records, revoked ones too."""
    return work.bodies(ApiKey, select(api_keys.c.body).order_by(api_keys.c.user))


def revoke(work: Work, prefix: str) -> ApiKey:
    """Refuse the key with this prefix from now on. Raises NotFound."""
    for key in keys(work):
        if key.prefix == prefix and not key.revoked:
            gone = key.model_copy(update={"revoked": True})
            changes = {"revoked": True, "body": gone.model_dump(mode="json")}
            work.run(update(api_keys).where(api_keys.c.hash == key.hash).values(**changes))
            return gone
    raise NotFound(f"There is no key with prefix '{prefix}' in use; treadle keys list shows them.")
