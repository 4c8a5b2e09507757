"""The prompt that serving feeds the engine is, token for token, the one that training and evaluating see."""

import pytest

from cluster.domain.agents import Agent
from cluster.domain.conversations import Citation, Message
from cluster.domain.prompts import as_dicts, prompt_ids, render, training_ids
from serve_app.ask import Ask
from serve_app.engine import GenerationRequest, ScriptedEngine
from tests.serve_app.conftest import House, tokenizer

HISTORY = (Message(role="user", content="Where are you?"), Message(role="assistant", content="Here.\n"))
CASES = [
    ("", "list files", (), ()),
    ("Write one shell command.", "list files  in /tmp/ä ", (), ()),
    ("Answer tenants.", "When do bins go out?", (), ("Bins go out on Monday.", "The office\n opens at 9.")),
    ("Answer tenants.", "And paper?", HISTORY, ("Paper goes out on Friday.",)),
    ("多语言 ünïcode ✓", "emoji 🙂 tab\tand\r\nlines", HISTORY, ()),
]


@pytest.mark.parametrize(("prompt", "question", "history", "passages"), CASES)
async def test_serving_training_and_evaluating_agree(
    house: House,
    monkeypatch: pytest.MonkeyPatch,
    prompt: str,
    question: str,
    history: tuple[Message, ...],
    passages: tuple[str, ...],
) -> None:
    real = tokenizer(house.settings.models.base.location)
    messages = render(prompt, question, history, passages)
    trained, answer = training_ids(real, messages, "ls -la")

    served: list[list[int]] = []

    def listen(request: GenerationRequest) -> str:
        served.append(list(request.prompt_ids))
        return "ls"

    async def found(*_: object) -> tuple[Citation, ...]:
        return tuple(
            Citation(number=n, passage_id="", document_id="", source="", text=text) for n, text in enumerate(passages, 1)
        )

    answering = house.gateway.answering
    house.speaks(ScriptedEngine(listen))
    monkeypatch.setattr(answering, "_passages", found)  # which passages are found is not compared here
    house.gateway.live.agents["linux"] = Agent(name="linux", prompt=prompt)
    ask = Ask(user="ada", model="linux", messages=(*history, Message(role="user", content=question)), record=False)
    started = await answering.begin(ask)
    async for _ in started.deltas():
        pass
    assert served == [trained] == [prompt_ids(real, messages)]
    template = real.apply_chat_template(as_dicts(messages), add_generation_prompt=True, tokenize=False)
    assert real(template, add_special_tokens=False)["input_ids"] == trained, "rendering text first gives the same ids"
    assert real.decode(answer).startswith("ls -la")
    assert answer[-1] == real.eos_token_id
