"""What is written down in the background, and that nothing of it is lost while the catalog is away."""

import pytest

from cluster.catalog import Catalog, audit
from cluster.domain.audit import AuditEntry
from cluster.errors import Unavailable
from serve_app.books import Books
from serve_app.routes.access import Curator
from tests.serve_app.conftest import House


async def test_what_could_not_be_written_waits_for_the_next_time(house: House) -> None:
    limits, identities = house.gateway.limits, house.gateway.identities
    away = Catalog("postgresql+psycopg://nobody@127.0.0.1:1/none")
    books = Books(away, limits, identities)
    for number in range(3):
        books.note(AuditEntry(user="ada", action="request", target=str(number), result="refused"))
    limits.add("requests/ada", "minute", 1)
    with pytest.raises(Unavailable):
        await books.write()
    assert limits.to_tell
    books._catalog = house.catalog
    await books.write()
    await books.write()
    assert not limits.to_tell
    with house.catalog.reading() as work:
        assert [one.target for one in audit.recent(work)] == ["2", "1", "0"]


async def test_a_route_for_curators_is_for_curators_and_admins(house: House) -> None:
    @house.app.get("/only-curators")
    async def only(caller: Curator) -> str:
        return caller.user

    statuses = {}
    for user, role in (("ada", "user"), ("eve", "curator"), ("root", "admin")):
        async with house.client(user, role) as client:
            statuses[role] = (await client.get("/only-curators")).status_code
    assert statuses == {"user": 403, "curator": 200, "admin": 200}
