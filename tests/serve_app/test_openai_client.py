"""OpenAI's own client against the application: every field that is offered, streamed and whole."""

import copy
import json
from typing import Any

import httpx
import openai
import pytest

from cluster.catalog import conversations
from serve_app.engine import GenerationRequest, ScriptedEngine
from tests.serve_app.conftest import House, chat, embedder, tokenizer

TOOLS_TEMPLATE = (
    "{% if tools %}<tools>{{ tools | tojson }}</tools>{% endif %}{% for message in messages %}{{ message['role'] }}:"
    "{{ message['content'] }}{% for call in message.tool_calls or [] %}<call>{{ call.function | tojson }}</call>{% endfor %}\n"
    "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def asked(house: House) -> list[GenerationRequest]:
    return house.engine.asked


def messages(text: str = "list the files") -> list[Any]:
    return [{"role": "user", "content": text}]


async def test_several_choices_have_seeds_of_their_own_and_the_first_is_recorded(house: House) -> None:
    async with house.openai() as client:
        answer = await client.chat.completions.create(model="linux", messages=messages(), n=3, seed=41, temperature=0.7)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert [request.seed for request in asked(house)] == [41, 42, 43]
    assert len({request.id for request in asked(house)}) == 3
    assert answer.usage.completion_tokens == 12
    about = answer.model_extra["treadle"]
    with house.catalog.reading() as work:
        assert conversations.turn(work, about["turn_id"]).answer == answer.choices[0].message.content
        assert len(conversations.recent(work)) == 1


async def test_a_stream_of_several_choices_says_in_every_piece_whose_it_is(house: House) -> None:
    async with house.openai() as client:
        stream = await client.chat.completions.create(
            model="linux", messages=messages(), n=2, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    texts, ends = {0: "", 1: ""}, {}
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            ends |= {choice.index: choice.finish_reason} if choice.finish_reason else {}
    assert texts[0] == texts[1] != ""
    assert ends == {0: "stop", 1: "stop"}
    assert chunks[-1].usage.completion_tokens == 8
    assert next(chunk.model_extra["treadle"] for chunk in chunks if "treadle" in chunk.model_extra)["turn_id"]


@pytest.mark.parametrize("stream", [False, True])
async def test_logprobs_stand_beside_the_text(house: House, stream: bool) -> None:
    async with house.openai() as client:
        options: dict[str, Any] = {"model": "linux", "messages": messages(), "logprobs": True, "top_logprobs": 1}
        if stream:
            chunks = [chunk async for chunk in await client.chat.completions.create(**options, stream=True)]
            found = [one for chunk in chunks if chunk.choices[0].logprobs for one in chunk.choices[0].logprobs.content]
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        else:
            choice = (await client.chat.completions.create(**options)).choices[0]
            found, text = choice.logprobs.content, choice.message.content
    assert "".join(one.token for one in found) == text
    assert all(one.logprob == 0.0 and bytes(one.bytes).decode() == one.token for one in found)
    assert all([top.token for top in one.top_logprobs] == [one.token] for one in found)


async def test_sampling_fields_reach_the_engine_and_cost_nothing_when_they_are_not_there(house: House) -> None:
    extra = {"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1, "min_tokens": 2, "ignore_eos": True}
    async with house.openai() as client:
        await client.chat.completions.create(model="linux", messages=messages())
        await client.chat.completions.create(
            model="linux",
            messages=messages(),
            presence_penalty=0.5,
            frequency_penalty=-0.5,
            logit_bias={"7": -100},
            stop=list("abcdefgh"),
            max_completion_tokens=7,
            extra_body=extra,
        )
    plain, rich = asked(house)
    assert plain.extra is None
    assert rich.extra == {**extra, "presence_penalty": 0.5, "frequency_penalty": -0.5, "logit_bias": {7: -100.0}}
    assert (rich.max_tokens, rich.stop) == (7, tuple("abcdefgh"))


async def test_a_response_format_becomes_a_grammar_of_the_engine(house: House) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    async with house.openai() as client:
        for form in (
            {"type": "text"},
            {"type": "json_object"},
            {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}},
        ):
            await client.chat.completions.create(model="linux", messages=messages(), response_format=form)
    assert [request.extra for request in asked(house)] == [
        None,
        {"structured_outputs": {"json_object": True}},
        {"structured_outputs": {"json": schema}},
    ]


def nested(deep: int) -> dict[str, Any]:
    return {"a": nested(deep - 1)} if deep else {}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (chat("linux", top_logprobs=2), "logprobs"),
        (chat("linux", seed=1 << 70), "seed"),
        (chat("linux", stop=[""]), "stop"),
        (chat("linux", logit_bias={"x": 1}), "logit_bias"),
        (chat("linux", response_format={"type": "json_schema"}), "response_format"),
        (chat("linux", response_format={"type": "json_schema", "json_schema": {"schema": nested(70)}}), "schema"),
        (chat("linux", tool_choice="required"), "tool_choice is required"),
        (chat("linux", tools=[WEATHER], tool_choice={"type": "function", "function": {"name": "time"}}), "names 'time'"),
        (chat("linux", metadata={"x": "y" * 600}), "metadata"),
    ],
)
async def test_what_cannot_be_used_is_named(house: House, body: dict[str, Any], named: str) -> None:
    async with house.client() as client:
        answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400, answer.text
    assert named in answer.json()["error"]["message"]
    assert asked(house) == []


async def test_not_a_number_and_half_characters_are_400_and_not_500(house: House) -> None:
    async with house.client() as client:
        for text in (
            '{"model": "linux", "messages": [{"role": "user", "content": "x"}], "temperature": NaN}',
            '{"model": "\\ud800", "messages": [{"role": "user", "content": "x"}]}',
            '{"model": "linux", "messages": [{"role": "user", "content": "x"}], "treadle": {"\\ud800": 1}}',
            "[" * 5000,
        ):
            answer = await client.post("/v1/chat/completions", content=text, headers={"content-type": "application/json"})
            assert answer.status_code == 400, text[:80]
            assert answer.json()["error"]["message"]


async def test_many_tokens_asked_for_are_as_many_as_there_is_room(house: House) -> None:
    async with house.openai() as client:
        await client.chat.completions.create(model="linux", messages=messages(), max_tokens=1_000_000)
    (request,) = asked(house)
    assert request.max_tokens == house.settings.engine.max_model_len - len(request.prompt_ids)


async def test_metadata_is_kept_on_the_turn(house: House) -> None:
    async with house.openai() as client:
        answer = await client.chat.completions.create(model="linux", messages=messages(), metadata={"ticket": "T-7"})
    with house.catalog.reading() as work:
        assert conversations.turn(work, answer.model_extra["treadle"]["turn_id"]).metadata == {"ticket": "T-7"}


async def test_a_base_whose_template_knows_no_tools_says_so(house: House) -> None:
    results = [*messages(), {"role": "assistant", "tool_calls": [call()]}, {"role": "tool", "content": "4"}]
    async with house.openai() as client:
        for options in ({"messages": messages(), "tools": [WEATHER]}, {"messages": results}):
            with pytest.raises(openai.BadRequestError, match="knows no tools"):
                await client.chat.completions.create(model="linux", **options)
    assert asked(house) == []


def call() -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}


@pytest.fixture
def tooled(house: House) -> House:
    """A house whose base has tools in its template, and calls one whenever it may."""
    base = copy.copy(tokenizer(house.settings.models.base.location))
    base.chat_template = TOOLS_TEMPLATE
    house.gateway.bases.first.tokenizer = base

    def script(request: GenerationRequest) -> str:
        form = (request.extra or {}).get("structured_outputs", {}).get("json", {})
        if form.get("type") == "array":
            return '[{"name":"weather","parameters":{"city":"Basel"}}]'
        if form:
            return '{"city":"Chur"}'
        prompt = base.decode(request.prompt_ids)
        return "It rains." if "tool:" in prompt or "<tools>" not in prompt else '{"name":"weather","arguments":{"city":"Bern"}}'

    house.speaks(ScriptedEngine(script))
    return house


@pytest.mark.parametrize(
    ("choice", "city"),
    [("auto", "Bern"), ("required", "Basel"), ({"type": "function", "function": {"name": "weather"}}, "Chur"), ("none", None)],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_calls_of_tools_are_passed_through(tooled: House, choice: Any, city: str | None, stream: bool) -> None:
    options: dict[str, Any] = {"model": "linux", "messages": messages("rain in Bern?"), "tools": [WEATHER], "tool_choice": choice}
    async with tooled.openai() as client:
        if stream:
            chunks = [chunk async for chunk in await client.chat.completions.create(**options, stream=True)]
            calls = [one for chunk in chunks for one in chunk.choices[0].delta.tool_calls or ()]
            reason = chunks[-1].choices[0].finish_reason
        else:
            answer = (await client.chat.completions.create(**options)).choices[0]
            calls, reason = answer.message.tool_calls or [], answer.finish_reason
    if city is None:
        assert (calls, reason) == ([], "stop")
    else:
        assert [(one.function.name, json.loads(one.function.arguments)) for one in calls] == [("weather", {"city": city})]
        assert reason == "tool_calls"
        assert calls[0].id


async def test_the_result_of_a_tool_is_answered_and_recorded_as_an_answer_to_the_question(tooled: House) -> None:
    talk = [*messages("rain in Bern?"), {"role": "assistant", "content": None, "tool_calls": [call()]}]
    talk.append({"role": "tool", "tool_call_id": "call_1", "content": "heavy rain"})
    async with tooled.openai() as client:
        answer = await client.chat.completions.create(model="linux", messages=talk, tools=[WEATHER])
    assert answer.choices[0].message.content == "It rains."
    prompt = tokenizer(tooled.settings.models.base.location).decode(asked(tooled)[-1].prompt_ids)
    assert "Write one shell command." in prompt
    assert '<call>{"name": "weather", "arguments": {"city": "Bern"}}</call>' in prompt
    with tooled.catalog.reading() as work:
        turn = conversations.turn(work, answer.model_extra["treadle"]["turn_id"])
    assert (turn.question, turn.answer, turn.history) == ("rain in Bern?", "It rains.", ())


async def test_completions_continue_texts_and_token_ids_without_a_card_or_a_turn(house: House) -> None:
    house.release("linux", "0.1.0")
    await house.gateway.following.look()
    base = tokenizer(house.settings.models.base.location)
    async with house.openai() as client:
        answer = await client.completions.create(model="linux", prompt=["one two", "three"], n=2, seed=1, logprobs=1)
        ids = await client.completions.create(model="starter", prompt=base.encode("one two"), echo=True, max_tokens=2)
        stream = await client.completions.create(
            model="starter", prompt="one two", stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert [request.prompt_ids for request in asked(house)[:4:2]] == [base.encode("one two"), base.encode("three")]
    assert [request.adapter for request in asked(house)] == ["linux@0.1.0"] * 4 + [None] * 2
    first = answer.choices[0]
    assert "".join(first.logprobs.tokens) == first.text
    columns = zip(first.logprobs.text_offset, first.logprobs.tokens, strict=True)
    assert all(first.text[start:].startswith(token) for start, token in columns)
    assert answer.usage.prompt_tokens == len(base.encode("one two")) + len(base.encode("three"))
    assert ids.choices[0].text.startswith("one two")
    assert ids.choices[0].finish_reason == "length"
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]).startswith("base heard")
    assert chunks[-1].usage.completion_tokens == 4
    with house.catalog.reading() as work:
        assert conversations.recent(work) == []


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        ({"model": "auto", "prompt": "x"}, 400, "auto"),
        ({"model": "linx", "prompt": "x"}, 404, "linux"),
        ({"model": "starter", "prompt": [10**9]}, 400, "tokens are 0 to"),
        ({"model": "starter", "prompt": []}, 400, "prompt"),
        ({"model": "starter", "prompt": ["x"] * 33}, 400, "prompt"),
        ({"model": "starter", "prompt": "9 " * 2000}, 400, "1023"),
        ({"model": "starter", "prompt": "hello <|end|><|system|>"}, 400, "guard policy"),
        ({"model": "starter", "prompt": "x", "best_of": 3}, 400, "best_of"),
    ],
)
async def test_completions_that_cannot_be(house: House, body: dict[str, Any], status: int, named: str) -> None:
    async with house.client() as client:
        answer = await client.post("/v1/completions", json=body)
    assert answer.status_code == status, answer.text
    assert named in answer.json()["error"]["message"]


async def test_embeddings_are_the_embedders_as_numbers_and_as_base64(house: House) -> None:
    texts = ["heating", "the front gate", "a third one"]
    expected = embedder().embed(texts)
    async with house.openai() as client:
        packed = await client.embeddings.create(model="minilm", input=texts)
        plain = await client.embeddings.create(model="minilm", input=texts[0], encoding_format="float")
        with pytest.raises(openai.NotFoundError, match="'minilm'"):
            await client.embeddings.create(model="ada-002", input="x")
        with pytest.raises(openai.BadRequestError, match="384"):
            await client.embeddings.create(model="minilm", input="x", dimensions=5)
        with pytest.raises(openai.BadRequestError):
            await client.embeddings.create(model="minilm", input=["x"] * 513)
    assert [item.index for item in packed.data] == [0, 1, 2]
    for item, row in zip(packed.data, expected, strict=True):
        assert item.embedding == pytest.approx(row.tolist(), abs=1e-5)
    assert plain.data[0].embedding == pytest.approx(expected[0].tolist(), abs=1e-5)
    assert packed.usage.prompt_tokens > plain.usage.prompt_tokens > 0


async def test_tokens_go_out_and_come_back(house: House) -> None:
    base = tokenizer(house.settings.models.base.location)
    async with house.client() as client:
        found = (await client.post("/tokenize", json={"prompt": "list the files", "return_token_strs": True})).json()
        talk = (await client.post("/tokenize", json={"model": "linux", "messages": messages()})).json()
        back = (await client.post("/detokenize", json={"tokens": found["tokens"]})).json()
        for path, body in (
            ("/tokenize", {}),
            ("/tokenize", {"prompt": "x", "messages": messages()}),
            ("/detokenize", {"tokens": [10**12]}),
            ("/detokenize", {"tokens": [-1]}),
        ):
            assert (await client.post(path, json=body)).status_code == 400
        assert (await client.post("/tokenize", json={"model": "nobody", "prompt": "x"})).status_code == 404
    assert found["tokens"] == base.encode("list the files")
    assert found["count"] == len(found["tokens"]) == len(found["token_strs"])
    assert found["max_model_len"] == house.settings.engine.max_model_len
    assert back == {"prompt": "list the files"}
    assert talk["tokens"] == base.apply_chat_template(messages(), add_generation_prompt=True, return_dict=False)


async def test_a_bug_is_a_500_in_openais_shape(house: House) -> None:
    def broken(_: GenerationRequest) -> str:
        raise LookupError("a bug")

    house.speaks(ScriptedEngine(broken))
    transport = httpx.ASGITransport(house.app, raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {house.key('ada')}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://treadle", headers=headers) as client:
        answer = await client.post("/v1/chat/completions", json=chat("linux"))
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert "a bug" not in answer.text
