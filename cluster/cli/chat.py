"""Asking the endpoint from the terminal."""

import json
from typing import Any

import httpx

from cluster.access import own_key
from cluster.cli.console import Home, note, out
from cluster.errors import TreadleError, Unavailable
from cluster.ray_lifecycle import connection
from cluster.tls import trust


def ask(
    home: Home, model: str, messages: list[dict[str, str]], stream: bool = True, conversation: str | None = None
) -> dict[str, Any]:
    """Send messages; prints the answer as it comes when ``stream``. Returns ``{"answer", "treadle"}``."""
    url = f"{connection(home.settings).serve}/v1/chat/completions"
    headers = {"Authorization": f"Bearer {own_key(home.settings, home.catalog)}"}
    body: dict[str, Any] = {"model": model, "messages": messages, "stream": True}
    if conversation:
        body["treadle"] = {"conversation_id": conversation}
    said = ""
    details: dict[str, Any] = {}
    verify = trust(home.settings)
    try:
        with httpx.stream("POST", url, json=body, headers=headers, timeout=120, verify=verify) as response:
            if response.status_code != 200:
                response.read()
                raise TreadleError(response.json().get("error", {}).get("message", response.text))
            for line in response.iter_lines():
                if not line.startswith("data: ") or line == "data: [DONE]":
                    continue
                chunk = json.loads(line[6:])
                details = chunk.get("treadle") or details
                piece = "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
                said += piece
                if stream:
                    out.print(piece, end="", highlight=False, markup=False, soft_wrap=True)
    except httpx.HTTPError as error:
        raise Unavailable(
            f"The endpoint {url} does not answer ({type(error).__name__}); treadle status shows what runs."
        ) from None
    if stream:
        out.print()
    return {"answer": said, "treadle": details}


def converse(home: Home, model: str) -> None:
    """A conversation until an empty line or end of input."""
    note(
        f"Talking to '{model}'. /up and /down judge the last answer, '/ideal TEXT' says what it should have been; "
        "an empty line or /quit ends the conversation."
    )
    messages: list[dict[str, str]] = []
    last: dict[str, Any] = {}
    while True:
        try:
            said = input("> ").strip()
        except EOFError:
            return
        if said in ("", "/quit", "/exit"):
            return
        if said.startswith("/"):
            _judge(home, said, last)
            continue
        messages.append({"role": "user", "content": said})
        last = ask(home, model, messages, conversation=(last.get("treadle") or {}).get("conversation_id"))
        messages.append({"role": "assistant", "content": last["answer"]})
        note(f"[{last['treadle'].get('release') or last['treadle'].get('agent')}]")


def _judge(home: Home, said: str, last: dict[str, Any]) -> None:
    word, _, text = said[1:].partition(" ")
    kinds = {"up": ("thumb", "up"), "down": ("thumb", "down"), "ideal": ("ideal_answer", text)}
    turn = (last.get("treadle") or {}).get("turn_id")
    if word not in kinds or turn is None:
        note("Say /up, /down or '/ideal TEXT' after an answer.")
        return
    kind, value = kinds[word]
    body = {"turn_id": turn, "kind": kind, "value": value}
    url = f"{connection(home.settings).serve}/v1/signals"
    headers = {"Authorization": f"Bearer {own_key(home.settings, home.catalog)}"}
    answer = httpx.post(url, json=body, headers=headers, timeout=30, verify=trust(home.settings))
    note("noted" if answer.is_success else answer.json().get("error", {}).get("message", answer.text))
