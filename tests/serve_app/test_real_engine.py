"""The application on a private Ray with the real engine: vLLM, the starter model and three LoRA adapters."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster import ray_lifecycle
from cluster.artifacts import Artifacts
from cluster.base_model import base_digest
from cluster.catalog import Catalog, agents, releases
from cluster.domain.agents import Agent
from cluster.domain.releases import CHAMPION
from cluster.domain.validation import PatternRule
from cluster.errors import Unavailable
from cluster.settings import load_settings
from tests.serve_app.other_base import other_base
from tests.serve_app.real_service import SETTINGS, Service, adapter, models_with, release, spoilt
from tests.serve_app.test_api_page import SECRET, run_examples

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

NAMES = ("linux", "property", "python")
SPOILT = ("nan", "torn", "wide")
SPARE = 7
"""Releases beyond the four adapters that the engine holds."""
QUESTIONS = ("list the files", "Repeat: plum zq81 north", "When does the office open?", "Write a line about seven boats.")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    patch = pytest.MonkeyPatch()
    home = tmp_path_factory.mktemp("serve")
    models = models_with(other_base("models/starter", home / "other"), home / "models.yaml")
    (home / "treadle.yaml").write_text(SETTINGS % (models, SECRET))
    patch.setenv("TREADLE_HOME", str(home / "home"))
    patch.setenv("TREADLE_SETTINGS", str(home / "treadle.yaml"))
    for name in ("TREADLE_CATALOG_URL", "TREADLE_ARTIFACTS_URL", "TREADLE_MLFLOW_URL", "TREADLE_PROFILE"):
        patch.delenv(name, raising=False)
    settings = load_settings()
    catalog = Catalog(settings.catalog_url).prepare()
    artifacts = Artifacts(settings.artifacts_url)
    made = []
    for number, name in enumerate(NAMES):
        place = adapter(settings.models.base.location, number, home / name)
        made.append(release(settings, artifacts, place, name, "0.1.0"))
    made.append(release(settings, artifacts, adapter(settings.models.base.location, 9, home / "next"), "linux", "0.2.0"))
    broad = adapter(settings.models.base.location, 10, home / "broad", rank=32)
    made.append(release(settings, artifacts, broad, "python", "0.2.0"))
    made.append(release(settings, artifacts, home / "python", "python", "0.3.0", base_digest="0" * 64))
    for number, how in enumerate(SPOILT):
        made.append(release(settings, artifacts, spoilt(home / "python", home / how, how), "python", f"0.4.{number}"))
    for number in range(SPARE):
        place = adapter(settings.models.base.location, 30 + number, home / f"spare{number}")
        made.append(release(settings, artifacts, place, "spare", f"0.3.{number}"))
    role = settings.bases[1]
    for version, seed in (("0.1.0", 50), ("0.2.0", 51)):
        changes = {"base_model": role.name, "base_digest": base_digest(role)}
        made.append(release(settings, artifacts, adapter(role.location, seed, home / version), "abroad", version, **changes))
    with catalog.transaction() as work:
        for one in made:
            releases.add(work, one)
        for number, name in enumerate(NAMES):
            agents.save(work, made[number].card.model_copy(update={"default": number == 0}))
            releases.move_alias(work, name, CHAMPION, "0.1.0", "test")
    try:
        ray_lifecycle.start(settings, mlflow=False)
        ray_lifecycle.deploy(settings)
        yield Service(settings, catalog)
    finally:
        if ray_lifecycle.state(settings):
            ray_lifecycle.stop(settings)
        catalog.close()
        patch.undo()


async def test_one_batch_answers_all_adapters_and_the_base(service: Service) -> None:
    """Each answers in the mixed batch as it does alone, and no two the same: adapters do not leak into one another."""
    models = ["linux", "property", "python", "linux@base", "starter"]
    asked = [(model, question) for question in QUESTIONS for model in models]
    async with service.client() as client:
        alone = [(await service.ask(client, *one)).json() for one in asked]
        mixed = await asyncio.gather(*(service.ask(client, *one) for one in asked * 2))
    texts = [answer["choices"][0]["message"]["content"] for answer in alone]
    said = {tuple(texts[number :: len(models)]) for number in range(4)}
    assert len(said) == 4, "each must speak in its own way"
    for number, answer in enumerate(mixed):
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["message"]["content"] == texts[number % len(asked)]
    refs = [answer["treadle"]["release"] for answer in alone[: len(models)]]
    assert refs == ["linux@0.1.0", "property@0.1.0", "python@0.1.0", "linux@base", None]


def test_the_openai_client_streams_from_auto_agent_and_release(service: Service) -> None:
    client = service.openai()
    said = {}
    for model in ("auto", "linux", "linux@0.1.0", "linux@0.2.0"):
        chunks = list(
            client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": "list the files"}],
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        said[model] = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens > 0
        about = next(chunk.model_extra["treadle"] for chunk in chunks if chunk.model_extra and "treadle" in chunk.model_extra)
        assert about["turn_id"]
    assert said["auto"] == said["linux"] == said["linux@0.1.0"] != said["linux@0.2.0"]
    assert {"auto", "linux", "linux@0.1.0", "linux@base", "starter"} <= {model.id for model in client.models.list()}


async def test_unknown_models_and_unusable_adapters_are_one_clear_error_each(service: Service) -> None:
    async with service.client() as client:
        unknown = await service.ask(client, "linx")
        release_missing = await service.ask(client, "linux@9.9.9", stream=True)
        rank = await service.ask(client, "python@0.2.0")
        other_base = await service.ask(client, "python@0.3.0", stream=True)
        fine = await service.ask(client, "python")
    assert (unknown.status_code, release_missing.status_code) == (404, 404)
    assert "linux" in unknown.json()["error"]["message"]
    assert "linux@0.1.0" in release_missing.json()["error"]["message"]
    assert (rank.status_code, other_base.status_code) == (400, 400)
    assert "rank 32" in rank.json()["error"]["message"]
    assert "another base model" in other_base.json()["error"]["message"]
    assert fine.status_code == 200


async def test_one_bad_adapter_among_good_ones_fails_alone_and_is_not_tried_for_each_request(service: Service) -> None:
    named = {"python@0.4.0": "are not all numbers", "python@0.4.1": "cannot be read", "python@0.4.2": "cannot be loaded"}
    async with service.client() as client:
        before = [text_of(await service.ask(client, name)) for name in NAMES]
        models = [*named, *NAMES] * 4
        answers = await asyncio.gather(
            *(service.ask(client, model, stream=number % 2 == 1) for number, model in enumerate(models))
        )
        for model, answer in zip(models, answers, strict=True):
            assert answer.status_code == (400 if model in named else 200), (model, answer.text)
            if model in named:
                said = answer.json()["error"]["message"]
                assert model in said
                assert named[model] in said
                assert "\n" not in said
        assert [text_of(await service.ask(client, name)) for name in NAMES] == before
        aside = (await client.get("/health/detailed")).json()["engine"]["quarantined"]
    assert {model for model in aside if model in named} == set(named)


async def test_a_changed_byte_in_the_artifact_store_is_refused_until_it_is_restored(service: Service) -> None:
    with service.catalog.reading() as work:
        held = releases.get(work, "spare@0.3.0")
    file = Path(held.adapter_uri) / "adapter_model.safetensors"
    whole = file.read_bytes()
    async with service.client() as client:
        try:
            file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
            refused = await service.ask(client, "spare@0.3.0")
        finally:
            file.write_bytes(whole)
        assert refused.status_code == 500
        assert "adapter_model.safetensors of the bundle at" in refused.json()["error"]["message"]
        at_once = await service.ask(client, "spare@0.3.0")
        assert at_once.json() == refused.json(), "it is set aside for a while, not read again for each request"
        assert (await service.ask(client, "linux")).status_code == 200
        async with asyncio.timeout(60):
            while (await service.ask(client, "spare@0.3.0")).status_code != 200:
                await asyncio.sleep(1.0)
        assert "spare@0.3.0" not in (await client.get("/health/detailed")).json()["engine"]["quarantined"]


async def test_more_adapters_than_the_engine_holds_answer_as_before(service: Service) -> None:
    models = [*NAMES, "linux@0.2.0", *(f"spare@0.3.{number}" for number in range(SPARE))]
    async with service.client() as client:
        alone = [text_of(await service.ask(client, model)) for model in models]
        assert len(set(alone)) == len(models), "each must speak in its own way"
        again = [text_of(await service.ask(client, model)) for model in models]
        assert again == alone, "the first has gone out and come back"
        mixed = await asyncio.gather(*(service.ask(client, model) for model in models * 4))
        assert [text_of(answer) for answer in mixed] == alone * 4
        held = (await client.get("/health/detailed")).json()["engine"]["adapters"]
    assert len(held) <= 4
    assert len(set(held)) == len(held)


async def test_two_bases_answer_at_once_each_with_its_own_releases(service: Service) -> None:
    """As they do alone, and never with the other's weights or tokens."""
    first, second = ["linux", "property@0.1.0", "starter"], ["abroad@0.1.0", "abroad@0.2.0", "other"]
    asked = [(model, question) for question in QUESTIONS for model in (*first, *second)]
    async with service.client() as client:
        alone = [text_of(await service.ask(client, *one)) for one in asked]
        said = {tuple(alone[number :: len(first) + len(second)]) for number in range(len(first) + len(second))}
        assert len(said) == len(first) + len(second), "each must speak in its own way"
        mixed = await asyncio.gather(*(service.ask(client, *one) for one in asked * 2))
        assert [text_of(answer) for answer in mixed] == alone * 2
        found = (await client.get("/health/detailed")).json()["bases"]
        long = await service.ask(client, "abroad@0.1.0", "sort " * 300)
    assert set(found["other"]["adapters"]) == {"abroad@0.1.0", "abroad@0.2.0"}
    assert not set(found["starter"]["adapters"]) & set(found["other"]["adapters"])
    assert (long.status_code, "the model takes 255" in long.text) == (400, True)


def test_a_second_base_says_what_its_model_says_without_us(service: Service) -> None:
    """Token by token, of the base and of an adapter on it, as transformers and PEFT find it."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with service.catalog.reading() as work:
        release = releases.get(work, "abroad@0.1.0")
    place = service.settings.bases[1].location
    tokenizer = AutoTokenizer.from_pretrained(place)
    bare = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).eval()
    client = service.openai()
    for model in ("other", "abroad@0.1.0"):
        used = bare if model == "other" else PeftModel.from_pretrained(bare, release.adapter_uri).eval()
        for prompt in QUESTIONS:
            ids = torch.tensor([tokenizer.encode(prompt)])
            wanted = used.generate(ids, max_new_tokens=6, do_sample=False)[0, ids.shape[1] :]
            said = client.completions.create(model=model, prompt=prompt, max_tokens=6, temperature=0.0).choices[0].text
            whole = tokenizer.decode(wanted, skip_special_tokens=True)
            assert said == whole.rstrip("\ufffd"), (model, prompt)  # vLLM gives out no part of a character


def text_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    text: str = answer.json()["choices"][0]["message"]["content"]
    return text


async def test_a_promotion_under_load_fails_no_request(service: Service) -> None:
    seen: list[tuple[int, str | None]] = []
    stop = asyncio.Event()
    async with service.client() as client:

        async def worker() -> None:
            while not stop.is_set():
                answer = await service.ask(client, "property")
                seen.append((answer.status_code, (answer.json().get("treadle") or {}).get("release")))

        workers = [asyncio.create_task(worker()) for _ in range(6)]
        await asyncio.sleep(1.0)
        made = release(
            service.settings,
            Artifacts(service.settings.artifacts_url),
            await asyncio.to_thread(adapter, service.settings.models.base.location, 20, service.settings.home / "scratch"),
            "property",
            "0.2.0",
        )
        with service.catalog.transaction() as work:
            releases.add(work, made)
            releases.move_alias(work, "property", CHAMPION, "0.2.0", "test")
        for _ in range(200):
            await asyncio.sleep(0.1)
            if len([one for one in seen if one[1] == "property@0.2.0"]) >= 10:
                break
        stop.set()
        await asyncio.gather(*workers)
    assert {status for status, _ in seen} == {200}
    served = [ref for _, ref in seen]
    assert {"property@0.1.0", "property@0.2.0"} == set(served)
    last_old = max(number for number, ref in enumerate(served) if ref == "property@0.1.0")
    first_new = served.index("property@0.2.0")
    assert last_old - first_new < 12, "new turns must get the new release at once"


async def test_an_experiment_divides_turns_between_real_adapters_and_one_that_cannot_be_loaded_gets_none(
    service: Service,
) -> None:
    async with service.client() as client:
        champion = (await service.ask(client, "linux")).json()["treadle"]["release"]
        challenger = next(one for one in ("linux@0.1.0", "linux@0.2.0") if one != champion)
        own = {one: (await service.ask(client, one)).json()["choices"] for one in (champion, challenger)}
        begun = [
            (await client.post("/v1/experiments", json={"challenger": one, "share": 0.5})).json()
            for one in (challenger, "python@0.3.0")
        ]
        async with asyncio.timeout(60):
            while "experiment" not in (await service.ask(client, "linux", treadle={})).json()["treadle"]:
                await asyncio.sleep(0.1)
        answers = await asyncio.gather(*(service.ask(client, "linux", treadle={}) for _ in range(30)))
        assert {answer.status_code for answer in answers} == {200}
        told = [answer.json() for answer in answers]
        assert {one["treadle"]["release"] for one in told} == {champion, challenger}
        for one in told:
            assert one["choices"] == own[one["treadle"]["release"]]
        assert (await service.ask(client, "python", treadle={})).json()["treadle"]["release"] == "python@0.1.0"
        found = (await client.get(f"/v1/experiments/{begun[1]['id']}")).json()
        assert "python@0.3.0" in found["problem"]
        found = (await client.get(f"/v1/experiments/{begun[0]['id']}")).json()
        assert found["champion"]["turns"] + found["challenger"]["turns"] >= 30
        assert found["challenger"]["errors"] == 0
        for one in begun:
            assert (await client.post(f"/v1/experiments/{one['id']}/stop", json={})).status_code == 200
        await asyncio.sleep(1)
        after = await asyncio.gather(*(service.ask(client, "linux", treadle={}) for _ in range(20)))
        assert {answer.json()["treadle"]["release"] for answer in after} == {champion}


async def test_a_client_that_leaves_ends_its_generation(service: Service) -> None:
    """Streaming or not, whichever the protocol: the engine stops, and none of the abandoned answers is written to its end."""
    messages = [{"role": "user", "content": "repeat a a a"}]
    # Without its end token the model writes until it is stopped.
    long: dict[str, Any] = {"model": "starter", "max_tokens": 900, "ignore_eos": True}
    async with service.client() as client:
        await settles(client)
        before = (await engine_of(client))["written"]
        for number in range(120):  # the second of two choices is often given up while it is on its way to the engine
            body = {**long, "messages": messages, "stream": True, "n": 1 if number % 4 == 0 else 2}
            async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                async for _line in answer.aiter_lines():
                    break
        answer = await asyncio.wait_for(service.ask(client, "linux"), timeout=60)
        assert answer.status_code == 200
        await settles(client)
        assert (await engine_of(client))["written"] == before + 1
        for path, body in (
            ("/v1/chat/completions", {**long, "messages": messages}),
            ("/v1/chat/completions", {**long, "messages": messages, "n": 8, "stream": True}),
            ("/v1/completions", {**long, "prompt": ["a a a", "b b b"]}),
            (
                "/api/chat",
                {"model": "starter", "messages": messages, "options": {"num_predict": 900}, "format": {"type": "string"}},
            ),
        ):
            asking = asyncio.create_task(client.post(path, json=body))
            while not asking.done() and (await engine_of(client))["running"] == 0:
                await asyncio.sleep(0.02)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await settles(client)
            assert (await engine_of(client))["written"] == before + 1, path


async def engine_of(client: httpx.AsyncClient) -> dict[str, int]:
    found: dict[str, int] = (await client.get("/health/detailed")).json()["engine"]
    return found


async def settles(client: httpx.AsyncClient) -> None:
    """Nobody waits for an answer, and the engine writes none."""
    for _ in range(300):
        if (await engine_of(client))["running"] == 0:
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the engine goes on writing answers that nobody waits for")


def test_seeds_choices_and_logprobs_of_the_real_engine(service: Service) -> None:
    client = service.openai()
    options: dict[str, Any] = {
        "model": "linux",
        "messages": [{"role": "user", "content": "list the files"}],
        "temperature": 1.0,
        "max_tokens": 12,
        "extra_body": {"treadle": {"record": False}},
    }
    several = client.chat.completions.create(**options, n=3, seed=5).choices
    alone = [client.chat.completions.create(**options, seed=seed).choices[0].message.content for seed in (5, 6, 7)]
    assert [choice.message.content for choice in several] == alone
    assert len(set(alone)) > 1
    greedy = client.chat.completions.create(**{**options, "temperature": 0.0}, logprobs=True, top_logprobs=3).choices[0]
    assert greedy.logprobs is not None
    content = greedy.logprobs.content or []
    assert len(content) > 1
    assert all(len(one.top_logprobs) == 3 and one.logprob == one.top_logprobs[0].logprob <= 0 for one in content)
    stream = client.chat.completions.create(**{**options, "temperature": 0.0}, logprobs=True, top_logprobs=3, stream=True)
    streamed = [one for chunk in stream for choice in chunk.choices if choice.logprobs for one in choice.logprobs.content or []]
    assert [one.token for one in streamed] == [one.token for one in content]
    raw = client.completions.create(model="starter", prompt="One, two, three,", max_tokens=5, logprobs=2).choices[0]
    assert raw.logprobs is not None
    assert "".join(raw.logprobs.tokens or []) == raw.text


@pytest.mark.parametrize("stream", [False, True])
def test_answers_are_held_to_a_schema(service: Service, stream: bool) -> None:
    schema = {
        "type": "object",
        "properties": {"on": {"type": "boolean"}, "room": {"enum": ["kitchen", "hall"]}},
        "required": ["on", "room"],
        "additionalProperties": False,
    }
    for model in ("starter", "linux"):
        options: dict[str, Any] = {
            "model": model,
            "messages": [{"role": "user", "content": "Is the light on?"}],
            "max_tokens": 64,
            "response_format": {"type": "json_schema", "json_schema": {"name": "light", "schema": schema, "strict": True}},
        }
        client = service.openai()
        if stream:
            pieces = client.chat.completions.create(**options, stream=True)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in pieces)
        else:
            text = client.chat.completions.create(**options).choices[0].message.content or ""
        said = json.loads(text)
        assert isinstance(said["on"], bool)
        assert said["room"] in ("kitchen", "hall")


async def test_what_only_the_engine_can_refuse_is_a_400_and_harms_nobody(service: Service) -> None:
    def form(schema: dict[str, Any]) -> dict[str, Any]:
        return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}

    async with service.client() as client:
        for more in (
            {"logit_bias": {"999999": 1}},
            {"min_tokens": 20, "max_tokens": 10},
            form({"type": "no such type"}),
            form({"$ref": "#/nowhere"}),
            form({"type": "string", "pattern": "("}),
            form({"type": "number", "multipleOf": 3}),
        ):
            for stream in (False, True):
                answer = await service.ask(client, "linux", stream=stream, **more)
                assert answer.status_code == 400, (more, answer.text)
                assert "\n" not in answer.json()["error"]["message"]
        assert (await service.ask(client, "linux", **form({}))).status_code == 200
        assert (await service.ask(client, "linux")).status_code == 200


async def test_extremes_of_sampling_harm_nobody(service: Service) -> None:
    tiny = 5e-324
    async with service.client() as client:
        for more in (
            {"seed": -(1 << 63)},
            {"seed": (1 << 63) - 1, "n": 8},
            {"temperature": tiny, "top_p": tiny, "min_p": 1.0},
            {"temperature": 2, "top_k": (1 << 31) - 1},
            {"temperature": 2, "top_k": -1, "repetition_penalty": tiny},
            {"repetition_penalty": 10, "presence_penalty": -2, "frequency_penalty": 2},
            {"logit_bias": {str(number): -100 for number in range(300)}, "logprobs": True, "top_logprobs": 20},
            {"logit_bias": {"-1": 1}},
            {"logit_bias": {str(10**30): 1}},
            {"min_tokens": 8, "ignore_eos": True, "stop": ["e" * 256, "a", "o"]},
            {"max_tokens": 10**30},
        ):
            answer = await service.ask(client, "linux", **{"temperature": 1.0, "max_tokens": 8, **more})
            assert answer.status_code in (200, 400), (more, answer.text)
            for prompt in ([0], [1] * 1023):
                body = {"model": "starter", "prompt": prompt, "temperature": 1.0, **more}
                answer = await client.post("/v1/completions", json={**body, "logprobs": 3})
                assert answer.status_code in (200, 400), (more, answer.text)
        assert (await service.ask(client, "linux")).status_code == 200


async def test_the_examples_of_the_api_page_run(service: Service) -> None:
    said = await asyncio.to_thread(run_examples, service.url, service.key)
    assert said[1].rstrip().endswith("data: [DONE]")
    assert any("treadle_answer_seconds_count" in one for one in said)


async def test_an_answer_that_breaks_a_rule_is_asked_for_once_more(service: Service) -> None:
    never = PatternRule(kind="must_match", name="never", patterns=("zq81 zq82",), reason="Write zq81 zq82.")
    card = Agent(name="strict", prompt="Answer.", rules=(never,), correct=True)
    with service.catalog.transaction() as work:
        agents.save(work, card)
    async with service.client() as client:
        for _ in range(100):
            answer = await service.ask(client, "strict", "When does the office open?", max_tokens=8)
            if answer.status_code == 200:
                break
            await asyncio.sleep(0.1)
        streamed = await service.ask(client, "strict", "When does the office open?", max_tokens=8, stream=True)
    body = answer.json()
    about = body["treadle"]
    reasons = ["Write zq81 zq82."]
    assert about["correction"] == {"failures": ["never"], "reasons": reasons, "left": ["never"], "kept": "first"}
    assert about["validation"] == {"passed": False, "failures": ["never"], "reasons": reasons}
    assert body["usage"]["prompt_tokens"] > 60, "the second prompt holds the first, its answer and the reason"
    last = json.loads(streamed.text.strip().split("\n\n")[-2].removeprefix("data: "))
    assert last["treadle"]["validation"] == about["validation"]
    assert "correction" not in last["treadle"]


def test_calls_of_tools_are_found_by_vllms_parsers(service: Service) -> None:
    from serve_app.bases import open_tokenizer
    from serve_app.vllm_engine import tool_calls

    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    tokenizer = open_tokenizer(service.settings.models.base.location)
    text = 'I look. <tool_call>{"name": "weather", "arguments": {"city": "Bern"}}</tool_call>'
    found = tool_calls("hermes", tokenizer, text, tools)
    assert found.content.strip() == "I look."
    assert [(name, json.loads(arguments)) for name, arguments in found.calls] == [("weather", {"city": "Bern"})]
    assert tool_calls("hermes", tokenizer, "It rains.", tools) == ("It rains.", ())
    with pytest.raises(Unavailable, match=r"engine\.tool_parser"):
        tool_calls("no such", tokenizer, text, tools)


def test_turns_are_committed_before_their_answer_ends(service: Service) -> None:
    found: list[dict[str, Any]] = []

    def one() -> None:
        body = {"model": "linux", "messages": [{"role": "user", "content": "who am i"}]}
        answer = httpx.post(f"{service.url}/v1/chat/completions", json=body, headers=service.headers, timeout=60).json()
        turn = httpx.get(f"{service.url}/v1/turns/{answer['treadle']['turn_id']}", headers=service.headers, timeout=60).json()
        found.append(turn)

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [turn["question"] for turn in found] == ["who am i"] * 8
