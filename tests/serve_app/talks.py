"""Conversations with a house, turn by turn, and what is said in them."""

from typing import Any

import httpx

from cluster.catalog import live_settings
from cluster.domain.live_settings import AgentSettings, ServiceSettings
from tests.serve_app.conftest import House, chat

LINUX, PROPERTY = "list all files in a directory with a shell command", "my heating is broken in the flat"
NOBODY, FOLLOWS = "who won the chess championship", "and how do I undo that?"


async def change(house: House, agent: str | None = None, **changes: Any) -> None:
    with house.catalog.transaction() as work:
        if agent is None:
            live_settings.save_service(work, ServiceSettings.model_validate(changes))
        else:
            live_settings.save_agent(work, agent, AgentSettings.model_validate(changes))
    await house.gateway.following.look()


class Talk:
    """One conversation, turn by turn."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client, self.id, self.text = client, None, ""

    async def say(self, question: str, model: str = "auto", status: int = 200, **wishes: Any) -> dict[str, Any]:
        treadle = {**({"conversation_id": self.id} if self.id else {}), **wishes}
        answer = await self.client.post("/v1/chat/completions", json=chat(model, question, treadle=treadle))
        assert answer.status_code == status, answer.text
        if status != 200:
            said: dict[str, Any] = answer.json()["error"]
            return said
        about: dict[str, Any] = answer.json()["treadle"]
        self.id, self.text = about["conversation_id"], answer.json()["choices"][0]["message"]["content"]
        return about


def picked(about: dict[str, Any]) -> tuple[str, str]:
    return about["agent"], about["route"]["chosen_by"]
