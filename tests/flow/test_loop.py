"""The loop on a local cluster with the real parts, in the order in which a person would turn it. Nothing here looks at how good the
answers are (that takes minutes of training: `make demo`); everything here looks at whether each step leaves what the next one needs."""

import asyncio
import hashlib
import json
from pathlib import Path

import httpx
import openai
import pytest
from mlflow import MlflowClient

from cluster.access import own_key
from cluster.artifacts import file_digest
from cluster.catalog import corpora, datasets, questions, releases, runs, signals
from cluster.domain.data_recipes import IngestRecipe, SignalsRecipe
from cluster.domain.recipes import GateRecipe
from cluster.domain.releases import CHAMPION
from cluster.domain.runs import Run
from cluster.errors import JobFailed

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]
REQUEST = "The kitchen tap leaks at flat 12B, Maple Court."


@pytest.fixture(scope="session")
def gathered(loop, plan):
    return loop.wheel.gather(plan)


@pytest.fixture(scope="session")
def taught(loop, plan, gathered):
    made = loop.wheel.teach(plan)
    for ref in made:
        loop.home.registry.promote(ref, "for the test")
    return made


@pytest.fixture(scope="session")
def headers(loop):
    return {"Authorization": f"Bearer {own_key(loop.home.settings, loop.home.catalog)}"}


@pytest.fixture(scope="session")
def client(loop, headers):
    return openai.OpenAI(base_url=f"{loop.where.serve}/v1", api_key=headers["Authorization"].split()[1], max_retries=0)


def ask(loop, headers, model, text=REQUEST, **body):
    given = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 8, **body}
    return httpx.post(f"{loop.where.serve}/v1/chat/completions", json=given, headers=headers, timeout=120)


def test_documents_become_a_corpus_and_conversations_datasets(loop, gathered):
    report = next(one for one in gathered if "corpus" in one)
    counts = report["documents"]
    assert counts["in"] == counts["kept"] + sum(counts["dropped"].values()) + sum(counts["quarantined"].values())
    assert {"exact_duplicate", "near_duplicate"} <= set(counts["dropped"])
    with loop.home.catalog.reading() as work:
        assert corpora.newest(work, "property-kb").passages == report["passages"]
        for name in ("linux", "python", "property"):
            assert datasets.get(work, f"{name}-conversations").rows > 1000


def test_three_adapters_and_a_router_head_become_releases(loop, taught):
    assert sorted(taught) == ["linux@0.1.0", "property@0.1.0", "python@0.1.0"]
    with loop.home.catalog.reading() as work:
        release = releases.get(work, "property@0.1.0")
        assert releases.alias(work, "router", CHAMPION)
    assert release.indexes == {"property-kb": 1}
    assert release.datasets


def test_a_job_by_hand_shows_in_mlflow_with_dataset_parent_recipe_and_curves(loop, taught, tmp_path):
    recipe = {
        "agent": "linux",
        "datasets": ["linux-conversations"],
        "parent": "linux@0.1.0",
        "max_steps": 3,
        "batch_size": 4,
        "max_length": 128,
    }
    (tmp_path / "sft.json").write_text(json.dumps(recipe))  # JSON is YAML
    exported = loop.command("treadle", "config", "env", "--json")
    env = json.loads(exported.stdout)
    env.pop("PATH")
    words = [
        "ray",
        "job",
        "submit",
        "--working-dir",
        str(tmp_path),
        "--",
        "python",
        "-m",
        "train_jobs.sft",
        "--recipe",
        "sft.json",
    ]
    done = loop.command(*words, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    mlflow = MlflowClient(tracking_uri=loop.where.mlflow)
    found = {version.tags["semver"]: version for version in mlflow.search_model_versions("name = 'treadle.linux'")}
    version = found["0.1.1"]
    assert version.tags["parent"] == "linux@0.1.0"
    run = mlflow.get_run(version.run_id)
    assert run.data.params["max_steps"] == "3"
    assert [entry.dataset.name for entry in run.inputs.dataset_inputs] == ["linux-conversations"]
    assert len(mlflow.get_metric_history(version.run_id, "loss")) >= 2


@pytest.mark.parametrize("model", ["auto", "property", "property@0.1.0"])
def test_the_openai_client_gets_a_streamed_answer(client, taught, model):
    messages = [{"role": "user", "content": REQUEST}]
    chunks = list(client.chat.completions.create(model=model, messages=messages, stream=True, max_tokens=8))
    assert len(chunks) > 1
    assert chunks[-1].choices == [] or chunks[-1].choices[0].finish_reason
    last = next(chunk for chunk in reversed(chunks) if getattr(chunk, "treadle", None))
    assert last.treadle["turn_id"].startswith("turn_")
    if model != "auto":
        assert last.treadle["release"] == "property@0.1.0"


def test_the_base_is_listed_and_answers(client, taught):
    names = {model.id for model in client.models.list()}
    assert {"auto", "starter", "linux", "property@0.1.0"} <= names
    answer = client.chat.completions.create(model="starter", messages=[{"role": "user", "content": "hello"}], max_tokens=4)
    assert answer.usage.completion_tokens >= 1


def test_an_unknown_model_is_a_404_with_near_names(loop, headers, taught):
    answer = ask(loop, headers, "propert")
    assert answer.status_code == 404
    assert "property" in answer.json()["error"]["message"]


def test_without_a_key_nothing_but_health_answers(loop, taught):
    assert ask(loop, {}, "auto").status_code == 401
    assert httpx.get(f"{loop.where.serve}/health").status_code == 200
    assert httpx.get(f"{loop.where.serve}/health/ready").status_code == 200
    assert httpx.get(f"{loop.where.serve}/v1/models").status_code == 401


def test_judgements_become_pairs_questions_and_a_better_release_under_load(loop, plan, headers, taught):
    serve = loop.where.serve
    for number in range(12):
        answer = ask(loop, headers, "property", f"The bell is broken at flat {number + 1}A, Maple Court.").json()
        ideal = {
            "turn_id": answer["treadle"]["turn_id"],
            "kind": "ideal_answer",
            "value": f"Thank you. Flat {number + 1}A within 3 days.",
        }
        assert httpx.post(f"{serve}/v1/signals", json=ideal, headers=headers).is_success
    loop.wheel.listen()
    with loop.home.catalog.reading() as work:
        assert len(questions.get_set(work, "property-regression").questions) == 12
        said = [one for one in signals.recent(work) if one.kind == "ideal_answer"]
        links = signals.links(work, [one.id for one in said])
    assert all({kind for kind, _ in became} >= {"dataset", "question"} for became in links.values())

    (made,) = loop.wheel.improve(plan)
    assert made == "property@0.2.0"
    router_left_out = plan.model_copy(update={"router": None})
    assert made in loop.wheel.teach(router_left_out), "a challenger that no gate has judged is taken up by the next turn"
    assert loop.wheel.improve(plan) == [made], "nothing is learnt twice"
    answered = asyncio.run(_promote_under_load(loop, headers, made))
    assert answered["failed"] == 0
    assert answered["releases"] == {"property@0.1.0", "property@0.2.0"}
    found = loop.home.registry.compare("property@0.1.0", made)
    assert found.rows_added >= 12
    there_and_back = asyncio.run(_move_under_load(loop, headers, ["property@0.1.0", made, "property@0.1.0"]))
    assert there_and_back["failed"] == 0
    assert there_and_back["digests"] == {ref: {_digest_on_disk(loop, ref)} for ref in ("property@0.1.0", made)}


def _digest_on_disk(loop, ref):
    """The release's digest, with the adapter's part computed from its files again."""
    with loop.home.catalog.reading() as work:
        release = releases.get(work, ref)
        judged = questions.of_release(work, ref)
    folder = Path(release.adapter_uri)
    files = {path.name: file_digest(path) for path in sorted(folder.iterdir()) if path.name != "manifest.json"}
    assert hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest() == release.adapter_digest
    assert {one.release for one in judged} <= {ref}
    return release.digest


async def _move_under_load(loop, headers, stops):
    """Go to each release in turn, back by rolling back and forward by promoting, while four clients go on asking; returns what
    each answer said of its release."""
    said, failed, over = {}, 0, asyncio.Event()
    body = {"model": "property", "messages": [{"role": "user", "content": REQUEST}], "max_tokens": 4}
    async with httpx.AsyncClient(base_url=loop.where.serve, headers=headers, timeout=120) as client:

        async def asks():
            nonlocal failed
            while not over.is_set():
                answer = await client.post("/v1/chat/completions", json=body)
                failed += answer.status_code != 200
                if answer.status_code == 200:
                    about = answer.json()["treadle"]
                    said.setdefault(about["release"], set()).add(about["digest"])
                    last.append(about["release"])

        async def moves():
            for stop in stops:
                if stop == "property@0.1.0":
                    await asyncio.to_thread(loop.home.registry.rollback, "property")
                else:
                    await asyncio.to_thread(loop.home.registry.promote, stop)
                for _ in range(600):  # until the gateway follows
                    if last[-8:] == [stop] * 8:
                        break
                    await asyncio.sleep(0.1)
                assert last[-8:] == [stop] * 8, stop
            over.set()

        last: list[str] = []
        await asyncio.gather(moves(), *(asks() for _ in range(4)))
    return {"failed": failed, "digests": said}


async def _promote_under_load(loop, headers, made):
    seen, failed, moved = set(), 0, asyncio.Event()
    async with httpx.AsyncClient(base_url=loop.where.serve, headers=headers, timeout=120) as client:

        async def worker():
            nonlocal failed
            for number in range(200):
                body = {"model": "property", "messages": [{"role": "user", "content": REQUEST}], "max_tokens": 4}
                answer = await client.post("/v1/chat/completions", json=body)
                failed += answer.status_code != 200
                if answer.status_code == 200:
                    seen.add(answer.json()["treadle"]["release"])
                if number >= 3:
                    moved.set()
                if made in seen and number >= 8:
                    return

        async def promotion():
            await moved.wait()
            await asyncio.to_thread(loop.home.registry.promote, made)

        await asyncio.gather(promotion(), *(worker() for _ in range(4)))
    return {"failed": failed, "releases": seen}


def test_the_gate_keeps_a_release_that_is_not_better(loop, plan, taught):
    few = list(plan.agents["linux"].question_sets)
    verdict = loop.home.submitter.run(
        "train_jobs.gate", GateRecipe(challenger="linux@0.1.1", champion="linux@0.1.0", question_sets=tuple(few))
    )
    assert verdict["verdict"] == "keep"
    assert verdict["reasons"]
    with loop.home.catalog.reading() as work:
        assert releases.alias(work, "linux", CHAMPION) == "0.1.0"


def test_a_report_sets_the_two_side_by_side(loop, taught, tmp_path):
    page = tmp_path / "linux.html"
    done = loop.command("treadle", "eval", "report", "linux@0.1.1", "--against", "linux@0.1.0", "-o", str(page), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["questions"] >= 100
    assert "sign test p" in page.read_text()


def test_a_failing_job_is_one_sentence_and_a_failed_run(loop, plan, gathered):
    with pytest.raises(JobFailed, match="nothing-there"):
        loop.home.submitter.run("data_jobs.ingest", IngestRecipe(paths=("/nothing-there",), corpus="none"))
    with loop.home.catalog.reading() as work:
        assert runs.recent(work, 1)[0].state == "failed"
        assert "none" not in corpora.names(work)


def test_a_run_that_goes_on_is_followed_and_one_whose_ray_is_gone_is_launched_again(loop, gathered):
    recipe = SignalsRecipe(agent="python")
    going = loop.home.submitter.submit("data_jobs.signals", recipe)
    loop.home.submitter.run("data_jobs.signals", recipe)
    lost = Run(job="data_jobs.signals", recipe=recipe.model_dump(mode="json"), state="running", attempts=1, submission_id="gone")
    with loop.home.catalog.transaction() as work:
        before = [one.id for one in runs.of_job(work, "data_jobs.signals") if one.recipe == lost.recipe]
        runs.save(work, lost)
    assert before == [going.id]
    loop.home.submitter.run("data_jobs.signals", recipe)
    with loop.home.catalog.reading() as work:
        assert [one.id for one in runs.of_job(work, "data_jobs.signals") if one.recipe == lost.recipe] == [lost.id, going.id]
        assert runs.get(work, lost.id).state == "succeeded"


def test_a_second_turn_with_nothing_new_trains_nothing(loop, plan, taught):
    again = loop.wheel.gather(plan)
    assert not any(one["changed"] for one in again)
    assert loop.wheel.teach(plan.model_copy(update={"router": None})) == []
    assert not any(step.runs for step in loop.wheel.outlook(plan) if step.step == "teach")


def test_a_dry_run_says_what_a_changed_recipe_would_start(loop, taught):
    done = loop.command("treadle", "cycle", "run", "--plan", "configs/demo/plan.yaml", "--dry-run", "--json")
    steps = json.loads(done.stdout)
    assert {step["title"]: step["runs"] for step in steps if step["job"] == "train_jobs.sft"} == dict.fromkeys(
        ("sft property", "sft linux", "sft python"), True
    ), "the shipped plan trains for more steps than these tests did"
    assert "because" in loop.command("treadle", "cycle", "run", "--plan", "configs/demo/plan.yaml", "--dry-run").stdout


def test_every_command_speaks_json(loop, taught):
    for words in (
        ["status"],
        ["agents", "list"],
        ["releases", "list"],
        ["runs", "list"],
        ["signals", "ledger"],
        ["data", "datasets"],
    ):
        done = loop.command("treadle", *words, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)
    wrong = loop.command("treadle", "releases", "show", "linux@9.9.9")
    assert wrong.returncode == 1
    assert "has no release 9.9.9" in wrong.stderr
    assert "Traceback" not in wrong.stderr
