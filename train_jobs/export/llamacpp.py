"""llama.cpp in a process of its own, through the ``xllamacpp`` wheel (its only home): how a GGUF file really answers.

A process of its own, because llama.cpp ends its process on a file that it does not accept. Its server listens on a free loopback port and
wants a random key; it is there for the two things that the bindings do not offer, tokenisation and the chat template.
"""

import importlib.util
import json
import secrets
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple, Sequence

from cluster.errors import JobFailed
from cluster.scratch import working_folder
from cluster.settings import ROOT, cpu_cores

MISSING = "xllamacpp is not installed (pip install xllamacpp), so the GGUF file was not compared"
_START_SECONDS, _PROMPT_SECONDS = 300, 300
_SMALL = 100 << 20  # bytes: below, threads that wait for one another cost more than they bring


class Step(NamedTuple):
    """One generated token and the natural-log probabilities of the likeliest tokens at its place; None at a token that ends inside a
    character, of which llama.cpp tells none."""

    token: int
    logprobs: dict[int, float] | None


class Heard(NamedTuple):
    """What llama.cpp said: ids of ``texts``, ids of each conversation through the file's own chat template, and greedy answers."""

    tokens: list[list[int]]
    conversations: list[list[int]]
    answers: list[list[Step]]


def available() -> bool:
    """Whether the wheel is installed."""
    return importlib.util.find_spec("xllamacpp") is not None


def ask(
    model: Path,
    texts: Sequence[str],
    conversations: Sequence[list[dict[str, str]]],
    prompts: Sequence[Sequence[int]],
    tokens: int,
    likeliest: int,
) -> Heard:
    """Open the file and ask everything. Raises JobFailed with llama.cpp's last words when it does not take the file.

    ``tokens`` bounds an answer; ``likeliest`` is how many log-probabilities each place comes with. Sampling is greedy.
    """
    threads = cpu_cores() if model.stat().st_size > _SMALL else 1
    context = max((len(prompt) for prompt in prompts), default=0) + tokens + 8
    task = {
        "model": str(model),
        "texts": list(texts),
        "conversations": list(conversations),
        "prompts": [list(prompt) for prompt in prompts],
        "tokens": tokens,
        "likeliest": likeliest,
        "context": context,
        "threads": threads,
    }
    with working_folder("llamacpp") as scratch:
        asked, answered, log = scratch / "task.json", scratch / "answers.json", scratch / "log"
        asked.write_text(json.dumps(task), encoding="utf-8")
        command = [sys.executable, "-m", "train_jobs.export.llamacpp", str(asked), str(answered)]
        with log.open("wb") as output:
            try:
                limit = _START_SECONDS + _PROMPT_SECONDS * len(prompts)
                done = subprocess.run(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, timeout=limit, check=False)
            except subprocess.TimeoutExpired:
                raise JobFailed(
                    f"llama.cpp did not answer {len(prompts)} prompts within {limit} s; give fewer with --prompts."
                ) from None
        if done.returncode or not answered.is_file():
            lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
            said = next(
                (line for line in reversed(lines) if "rror" in line or "ailed" in line), lines[-1] if lines else "nothing"
            )
            raise JobFailed(f"llama.cpp does not take {model.name}: {said.strip()[:300]}")
        value = json.loads(answered.read_text(encoding="utf-8"))
    return Heard(value["tokens"], value["conversations"], [steps(said["tokens"], said["places"]) for said in value["answers"]])


def steps(tokens: Sequence[int], places: Sequence[tuple[int, list[tuple[int, float]]]]) -> list[Step]:
    """Tokens with their probabilities. ``places`` are some of the tokens, in order; which ones is known where matching from the left and
    from the right agree."""

    def matched(one: Sequence[int], other: Sequence[int]) -> list[int]:
        at, found = 0, []
        for number, token in enumerate(one):
            if at < len(other) and token == other[at]:
                found.append(number)
                at += 1
        return found

    known = [token for token, _ in places]
    left = matched(tokens, known)
    right = [len(tokens) - 1 - number for number in reversed(matched(tokens[::-1], known[::-1]))]
    sure = {one: place[1] for one, two, place in zip(left, right, places, strict=False) if one == two and len(left) == len(known)}
    return [Step(token, dict(map(tuple, sure[at])) if at in sure else None) for at, token in enumerate(tokens)]


def main(asked: Path, answered: Path) -> None:
    """The child's side."""
    import xllamacpp

    task = json.loads(asked.read_text(encoding="utf-8"))
    key = secrets.token_hex(16)
    params = xllamacpp.CommonParams()
    params.model.path = task["model"]
    params.n_ctx, params.n_parallel, params.cpuparams.n_threads = task["context"], 1, task["threads"]
    params.warmup, params.ui, params.api_keys, params.n_gpu_layers = False, False, [key], 0
    server = xllamacpp.Server(params)

    def post(path: str, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        request = urllib.request.Request(f"{server.listening_address}{path}", json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=_PROMPT_SECONDS) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise SystemExit(f"Error of {path}: {error.read().decode(errors='replace')[:300]}") from None

    def ids(text: str, special: bool) -> list[int]:
        return list(post("/tokenize", {"content": text, "add_special": special, "parse_special": True})["tokens"])

    def answer(prompt: list[int]) -> dict[str, Any]:
        body = {"prompt": prompt, "n_predict": task["tokens"], "n_probs": task["likeliest"], "cache_prompt": False}
        said = post("/completion", {**body, "temperature": 0.0, "return_tokens": True})
        places = said.get("completion_probabilities", [])
        return {
            "tokens": said["tokens"],
            "places": [(one["id"], [(near["id"], near["logprob"]) for near in one["top_logprobs"]]) for one in places],
        }

    # The template writes the first token itself, where there is one.
    rendered = [post("/apply-template", {"messages": one})["prompt"] for one in task["conversations"]]
    value = {
        "tokens": [ids(text, False) for text in task["texts"]],
        "conversations": [ids(text, True) for text in rendered],
        "answers": [answer(prompt) for prompt in task["prompts"]],
    }
    answered.write_text(json.dumps(value), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
