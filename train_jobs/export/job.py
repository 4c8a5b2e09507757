"""The export job: look the release up, check that base and adapter fit, write, compare, and put it in its place as a whole."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from cluster import base_model
from cluster.artifacts import file_digest
from cluster.catalog import releases
from cluster.domain.agents import GUARD, RESERVED
from cluster.domain.recipes import ExportRecipe
from cluster.domain.releases import Release
from cluster.errors import InvalidInput, NotFound
from cluster.job_run import JobRun
from cluster.model_roles import ModelRole
from train_jobs.export import architectures, gguf_file, llamacpp, ollama, parity, placing, prompts, vocabulary
from train_jobs.export.merge import Weights, write_merged

_WRITTEN = 0.5  # of the progress bar


class Exported:
    """What an export starts from: the release, its weights and its tokenizer. Raises one sentence when something is missing."""

    def __init__(self, job: JobRun, recipe: ExportRecipe) -> None:
        with job.catalog.reading() as work:
            self.release = releases.get(work, recipe.release)
        if self.release.agent in RESERVED:
            what = "classifier of the guard" if self.release.agent == GUARD else "router head"
            raise InvalidInput(
                f"Release '{self.release.ref}' is a {what}, which is no language model; export an agent's release."
            )
        role = _base(job, recipe, self.release)
        adapter = job.artifacts.fetch(self.release.adapter_uri, self.release.adapter_digest)
        self.weights = Weights(Path(role.location), adapter, self.release.ref)
        served = base_model.engine_of(job.settings, role).max_model_len
        self.longest = min(served, int(self.weights.config["max_position_embeddings"]))
        if not (self.weights.base / "tokenizer.json").is_file():
            raise NotFound(
                f"Base '{self.weights.base}' has no tokenizer.json; save its fast tokenizer there (tokenizer.save_pretrained)."
            )
        self.tokenizer: Any = AutoTokenizer.from_pretrained(self.weights.base)
        self.ends = vocabulary.end_ids(self.weights.base, self.weights.config, self.tokenizer)


def _base(job: JobRun, recipe: ExportRecipe, release: Release) -> ModelRole:
    """The base that the release was trained on: the recipe's, one that is served, or the one its training named."""
    named = recipe.base or release.recipe.get("base")
    roles = [base_model.base_role(job.settings, named)] if named else []
    if not recipe.base:
        roles = [*job.settings.bases, *roles]
    for role in roles:
        if role.endpoint or not Path(role.location).is_dir():
            continue
        if base_model.base_digest(role) == release.base_digest:
            return role
    first = roles[0]
    if first.endpoint or not Path(first.location).is_dir():
        raise NotFound(
            f"Base '{first.name}' is no directory on this machine, and export reads its weights; fetch them and give their path (--base)."
        )
    raise InvalidInput(
        f"Release '{release.ref}' was trained on another base model ({release.base_model}, {release.base_digest[:12]}), not on "
        f"'{first.location}' ({base_model.base_digest(first)[:12]}); give that base's path (--base)."
    )


def export(job: JobRun, recipe: ExportRecipe) -> dict[str, Any]:
    """The job's body; returns files, sizes, digests, figures of parity, and seconds."""
    started = time.monotonic()
    target = Path(recipe.output).absolute()
    job.progress(0.01, "reading the release")
    source = Exported(job, recipe)
    placing.check_place(target, source.release.ref)
    if recipe.form != "merged":
        architectures.architecture(source.weights.config)
    compared = recipe.check and (recipe.form == "merged" or llamacpp.available())
    if compared:
        parity.check_memory(source.weights)
    notes = [] if compared or not recipe.check else [f"{llamacpp.MISSING}."]
    with placing.writing(target, source.release.ref) as folder:
        figures: dict[str, Any] = {"parity": None}
        write = _merged if recipe.form == "merged" else _gguf
        drifted, said = write(job, recipe, source, folder)
        notes += said
        if compared:
            origin, answers = _reference(job, recipe, source)
            found = drifted(*answers)
            figures = {"parity": found.model_dump(mode="json"), "prompts_from": origin}
        job.progress(0.95, "digests")
        manifest = {**_about(source, recipe), "files": _files(folder), **figures, "notes": notes}
        placing.write_manifest(folder, manifest)
    return {**manifest, "output": str(target), "seconds": round(time.monotonic() - started, 1)}


Comparison = Callable[[list[parity.Prompt], list[parity.Answer]], parity.Parity]


def _merged(job: JobRun, recipe: ExportRecipe, source: Exported, folder: Path) -> tuple[Comparison, list[str]]:
    wanted = None if recipe.dtype == "keep" else getattr(torch, recipe.dtype)
    dtype = write_merged(source.weights, folder, wanted, lambda share: job.progress(_WRITTEN * share, "merging"))
    name = str(dtype).removeprefix("torch.")
    return lambda asked, answers: parity.compare_merged(folder, name, source.tokenizer, asked, answers), []


def _gguf(job: JobRun, recipe: ExportRecipe, source: Exported, folder: Path) -> tuple[Comparison, list[str]]:
    release = source.release
    file = folder / f"{release.agent}-{release.version}-{recipe.type}.gguf"
    notes: list[str] = []
    if recipe.form == "ollama":
        turns = ollama.turns_of(source.tokenizer, str(source.weights.base))
        strip = ollama.trims(source.tokenizer)
        stops = [source.tokenizer.decode([one]) for one in source.ends]
        context = source.longest
        text = ollama.modelfile(release.card, file.name, turns, stops, context, strip)
        (folder / "Modelfile").write_text(text, encoding="utf-8")
        if strip:
            notes.append("The chat template takes blanks off the ends of messages, and Ollama does not.")
        if "strftime_now" in str(source.tokenizer.chat_template):
            notes.append("The chat template can write today's date; the Modelfile holds that of the export.")
        if release.card.corpora:
            notes.append(f"Ollama does not retrieve: answers come without the passages of {', '.join(release.card.corpora)}.")
    left = gguf_file.write_gguf(
        source.weights,
        source.tokenizer,
        file,
        recipe.type,
        f"{release.agent} {release.version}",
        lambda share: job.progress(_WRITTEN * share, f"writing {file.name}"),
    )
    if left:
        notes.append(
            f"{len(left)} matrices stay F16, their rows are no multiple of 32 ({', '.join(left[:3])}{'…' if left[3:] else ''})."
        )

    def compare(asked: list[parity.Prompt], answers: list[parity.Answer]) -> parity.Parity:
        return parity.compare_gguf(file, recipe.type, source.tokenizer, asked, answers, recipe.tokens)

    return compare, notes


def _reference(
    job: JobRun, recipe: ExportRecipe, source: Exported
) -> tuple[str, tuple[list[parity.Prompt], list[parity.Answer]]]:
    origin, rendered = prompts.choose(job, source.release, recipe.prompts)
    room = source.longest - recipe.tokens
    asked = parity.make_prompts(source.tokenizer, rendered, room)
    answers = parity.reference(
        source.weights,
        asked,
        source.ends,
        recipe.tokens,
        lambda share: job.progress(_WRITTEN + 0.3 * share, "asking the adapter"),
    )
    job.progress(0.85, "asking the export")
    return origin, (asked, answers)


def _about(source: Exported, recipe: ExportRecipe) -> dict[str, Any]:
    release = source.release
    return {
        "release": release.ref,
        "release_digest": release.digest,
        "adapter_digest": release.adapter_digest,
        "base": release.base_model,
        "base_digest": release.base_digest,
        "form": recipe.form,
        "type": recipe.dtype if recipe.form == "merged" else recipe.type,
    }


def _files(folder: Path) -> list[dict[str, Any]]:
    return [
        {"name": file.name, "bytes": file.stat().st_size, "sha256": file_digest(file)}
        for file in sorted(folder.iterdir())
        if file.is_file()
    ]
