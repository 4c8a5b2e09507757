"""Passages in traffic: who may read them, where they stand in their documents, and a new version of their index while people ask."""

import asyncio
import gc
import shutil
import weakref
from typing import Any

import pytest

from cluster.catalog import conversations
from cluster.domain.conversations import WITHHELD
from cluster.domain.users import Access
from cluster.passage_index import PassageIndex
from serve_app import retriever
from tests.serve_app.conftest import House, chat
from tests.serve_app.passages import agent, passage, publish

CURATORS = Access(roles=("curator",))
QUESTION = "What is the lift code?"


async def cited(house: House, user: str, role: Any = "user", model: str = "facts", **wishes: Any) -> list[dict[str, Any]]:
    async with house.client(user, role) as client:
        answer = await client.post("/v1/chat/completions", json=chat(model, QUESTION, treadle=wishes))
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["treadle"]["citations"]
    return found


async def test_citations_say_page_and_characters_and_stand_in_the_turn(house: House) -> None:
    publish(house, 1, passage(1, "The lift code is 4471.", page=3), passage(2, "Bins go out on Monday."))
    await agent(house, top_k=1)
    async with house.client() as client:
        about = (await client.post("/v1/chat/completions", json=chat("facts", QUESTION))).json()["treadle"]
        turn = (await client.get(f"/v1/turns/{about['turn_id']}")).json()
    where = {"passage_id": "doc1.0", "document_id": "doc1", "source": "1.md", "page": 3, "start": 100, "end": 122}
    assert about["citations"] == turn["passages"] == [{"number": 1, **where, "text": "The lift code is 4471."}]


async def test_everybody_is_answered_from_what_they_may_read(house: House) -> None:
    secret, eves = "The lift code is 4471.", "The lift code of the cellar is 9."
    open_ones = [passage(n, f"Notice {n} about the lift.") for n in range(2)]
    hidden = [passage(n, f"{secret} Copy {n}.", CURATORS) for n in range(10, 90)]
    publish(house, 1, *open_ones, *hidden, passage(99, eves, Access(users=("eve",))))
    await agent(house, top_k=3)
    house.release("facts", "0.1.0", card=house.gateway.live.agents["facts"], indexes={"facts": 1}, champion=False)
    for model in ("facts", "facts@base", "facts@0.1.0"):
        assert {one["source"] for one in await cited(house, "ben", model=model)} == {"0.md", "1.md"}
    assert all(secret in one["text"] for one in await cited(house, "cy", "curator"))
    assert eves in {one["text"] for one in await cited(house, "eve")}
    assert len(await cited(house, "root", "admin")) == 3
    assert {one["source"] for one in await cited(house, "root", "admin", open_only=True)} == {"0.md", "1.md"}
    assert all("readers" not in one for one in await cited(house, "cy", "curator"))


async def test_the_prompt_of_who_may_not_read_is_that_of_a_corpus_without_it(house: House) -> None:
    publish(house, 1, passage(1, "Bins go out on Monday."), passage(2, "The lift code is 4471.", CURATORS))
    await agent(house)
    await cited(house, "ben")
    publish(house, 2, passage(1, "Bins go out on Monday."))
    await house.gateway.following.look()
    await cited(house, "ben")
    first, second = house.engine.asked
    assert first.prompt_ids == second.prompt_ids


async def test_a_turn_on_restricted_passages_is_withheld_from_others_who_may_not_read_them(house: House) -> None:
    publish(house, 1, passage(1, "The lift code is 4471.", Access(users=("eve",))), passage(2, "The lift is old."))
    await agent(house)
    async with house.client("eve") as eve, house.client("cy", "curator") as curator, house.client("root", "admin") as admin:
        turn_id = (await eve.post("/v1/chat/completions", json=chat("facts", QUESTION))).json()["treadle"]["turn_id"]
        own, others, all_of_it = [(await one.get(f"/v1/turns/{turn_id}")).json() for one in (eve, curator, admin)]
    assert own == all_of_it
    assert own["answer"].startswith("base heard")
    assert others["answer"] == WITHHELD
    assert "4471" not in str(others)
    assert {one["text"] for one in others["passages"]} == {WITHHELD, "The lift is old."}
    with house.catalog.reading() as work:
        assert conversations.turn(work, turn_id).restricted


def version(number: int, count: int = 6) -> list[Any]:
    return [passage(n, f"Version {number} says: the lift code is {n}.") for n in range(count)]


@pytest.mark.parametrize("released", [False, True])
async def test_an_index_is_swapped_while_people_ask(house: House, released: bool) -> None:
    """No request fails, no turn mixes two versions, and a release stays with the one it pins."""
    publish(house, 1, *version(1))
    card = await agent(house, top_k=5)
    if released:
        house.release("facts", "0.1.0", card=card, indexes={"facts": 1})
        await house.gateway.following.look()
    seen: list[set[str]] = []
    stop = asyncio.Event()

    async def ask_on(user: str) -> None:
        while not stop.is_set():
            seen.append({one["text"].split(" says")[0] for one in await cited(house, user)})

    people = [asyncio.create_task(ask_on(f"u{n}")) for n in range(8)]
    for number in (2, 3):
        await asyncio.sleep(0.2)
        publish(house, number, *version(number))
        if released:
            house.release("facts", f"0.{number}.0", card=card, indexes={"facts": number})
        await house.gateway.following.look()
    await asyncio.sleep(0.2)
    stop.set()
    await asyncio.gather(*people)
    assert all(len(texts) == 1 for texts in seen)
    assert [set().union(*seen)] == [{"Version 1", "Version 2", "Version 3"}]
    assert {one["text"].split(" says")[0] for one in await cited(house, "ada")} == {"Version 3"}
    if released:
        assert {one["text"].split(" says")[0] for one in await cited(house, "ada", model="facts@0.1.0")} == {"Version 1"}


async def test_a_new_version_that_cannot_be_opened_leaves_the_one_before(house: House) -> None:
    publish(house, 1, *version(1))
    await agent(house, top_k=1)
    await cited(house, "ada")
    shutil.rmtree(publish(house, 2, *version(2)).index_uri.removeprefix("file://"))
    await house.gateway.following.look()
    assert "Version 1" in (await cited(house, "ada"))[0]["text"]
    assert "facts" in house.gateway.live.problems["corpus facts"]
    publish(house, 3, *version(3))
    await house.gateway.following.look()
    assert "Version 3" in (await cited(house, "ada"))[0]["text"]
    assert "corpus facts" not in house.gateway.live.problems


async def test_an_index_that_nobody_uses_is_closed_and_opened_again_when_somebody_does(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(house, 1, *version(1))
    card = await agent(house, top_k=1)
    house.release("facts", "0.1.0", card=card, indexes={"facts": 1}, champion=False)
    (opened,) = await house.gateway.retriever.open({"facts": 1})
    first: weakref.ref[PassageIndex] = weakref.ref(opened)
    del opened
    publish(house, 2, *version(2))
    await house.gateway.following.look()
    assert first() is not None, "turns that began on it may still search"
    monkeypatch.setattr(retriever, "IDLE_SECONDS", 0.0)
    await house.gateway.following.look()
    gc.collect()
    assert first() is None
    assert house.gateway.retriever.holds("facts", 2)
    assert "Version 1" in (await cited(house, "ada", model="facts@0.1.0"))[0]["text"]
    assert "Version 2" in (await cited(house, "ada"))[0]["text"]
