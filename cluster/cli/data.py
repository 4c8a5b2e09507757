"""Documents, corpora and datasets."""

import shutil
from pathlib import Path
from typing import Annotated, Any, Iterator, Literal, TypeVar

import typer

from cluster.catalog import corpora, datasets, forgotten
from cluster.cli.console import AskedMode, Detach, Json, emit, home, note, table
from cluster.domain.base import Frozen
from cluster.domain.data_recipes import ConversationsRecipe, IngestRecipe, SynthesiseRecipe
from cluster.domain.forgetting import Held
from cluster.domain.parsing import parse
from cluster.domain.readers import Reader, parsed
from cluster.domain.users import Role
from cluster.errors import InvalidInput, RecipeError
from cluster.settings import read_yaml

Form = Literal["jsonl", "csv", "parquet"]
R = TypeVar("R", bound=Frozen)
FINISHED_WITH_QUARANTINE = 3

app = typer.Typer(no_args_is_help=True)


@app.command()
def ingest(
    paths: Annotated[list[str] | None, typer.Argument(help="Files, directories, URLs.")] = None,
    corpus: Annotated[str | None, typer.Option(help="The corpus to make a new version of.")] = None,
    recipe: Annotated[str | None, typer.Option(help="A recipe file; options given beside it go first.")] = None,
    chunk_size: Annotated[int | None, typer.Option(help="Length of a passage at most [512].")] = None,
    overlap: Annotated[int | None, typer.Option(help="What neighbours may share [50].")] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="Count in the embedder's tokens, not in characters.")] = False,
    words_only: Annotated[
        bool, typer.Option("--words-only", help="An index without vectors: many times as fast to make.")
    ] = False,
    text_field: Annotated[str | None, typer.Option(help="The field of a record with its text.")] = None,
    title_field: Annotated[str | None, typer.Option(help="The field of a record with its title.")] = None,
    access: Annotated[
        list[str] | None,
        typer.Option(
            help="Who may read what: 'hr/*=curator,@ada' (roles, and people with @); may be given again, the last that fits decides."
        ),
    ] = None,
    report: Annotated[str | None, typer.Option(help="Write the report as an HTML page to this file.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be read.")] = False,
    mode: AskedMode = None,
    detach: Detach = False,
    as_json: Json = False,
) -> None:
    """Read documents, wash them, drop duplicates, chunk and index them. What is known already is not read again. Exit code 3 says:
    finished, with something quarantined."""
    asked = {
        "paths": absolute(paths) if paths else None,
        "corpus": corpus,
        "chunk_size": chunk_size,
        "overlap": overlap,
        "chunk_unit": "tokens" if tokens else None,
        "vectors": False if words_only else None,
        "dry_run": dry_run or None,
        "access": [parsed(one) for one in access] if access else None,
        "fields": {"text": text_field, "title": title_field} if text_field or title_field else None,
    }
    wanted = merged(IngestRecipe, recipe, "treadle data ingest", asked)
    if report and not Path(report).parent.is_dir():
        raise InvalidInput(
            f"--report {report}: there is no directory {Path(report).parent}; make it first, or name another file."
        )
    result = home.launch_anywhere("data_jobs.ingest", wanted, detach, mode)
    if report and "report" in result:
        _copy_report(result["report"], report)
    emit(result, as_json, lambda: _show_ingest(result))
    if result.get("documents", {}).get("quarantined"):
        raise typer.Exit(FINISHED_WITH_QUARANTINE)


def _copy_report(uri: str, path: str) -> None:
    page = home.artifacts.fetch(uri) / "report.html"
    try:
        shutil.copyfile(page, path)
    except OSError as error:
        raise InvalidInput(f"--report {path}: it cannot be written ({error.strerror}). The page is kept in {uri}.") from None


def _show_ingest(result: dict[str, Any]) -> None:
    documents = result.get("documents")
    if not documents:
        table("Ingest", ("what", "value"), list(result.items()))
        return
    rows = [("in", documents["in"], ""), ("kept", documents["kept"], f"{result['passages']:,} passages")]
    rows += [(outcome, count, reason) for outcome in ("dropped", "quarantined") for reason, count in documents[outcome].items()]
    table(f"{result['corpus']} version {result['version']}", ("documents", "", ""), rows)
    for one in result["quarantined"][:10]:
        note(f"quarantined: {one['detail']}")
    more = sum(documents["quarantined"].values()) - 10
    if more > 0:
        note(f"and {more} more: {result['report']}/refused.jsonl")
    for sources in [sources for sources, count in result.get("access", {}).items() if not count]:
        note(f"no document's name fits --access '{sources}', so nothing is held back by it")
    state = "new version" if result["changed"] else "nothing changed"
    note(f"{state} in {result['seconds']:.1f} s ({result['mb_per_s']:g} MB/s); report: {result['report']}/report.html")


@app.command()
def forget(
    document: Annotated[str | None, typer.Argument(help="A document's source or id, as passages name it.")] = None,
    user: Annotated[str | None, typer.Option(help="A user instead: their conversations, turns and signals.")] = None,
    corpus: Annotated[str | None, typer.Option(help="Only in this corpus.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what holds it.")] = False,
    as_json: Json = False,
) -> None:
    """Say what holds a document's or a user's data, take it out of datasets and turns, and mark the rest to be built without it."""
    from cluster.forgetting import Forgetting

    if (document is None) == (user is None):
        raise InvalidInput("Give either a document or --user NAME: treadle data forget rent.md")
    forgetting = Forgetting(home.catalog, home.artifacts)
    held = forgetting.document(document, corpus) if document is not None else forgetting.user(str(user))
    if not dry_run:
        held = forgetting.forget(held, corpus)
    emit(held.model_dump(), as_json, lambda: _show_held(held))


def _show_held(held: Held) -> None:
    rows = [("index", f"{one.corpus} version {one.version}", f"{len(one.documents)} documents") for one in held.corpora]
    for one in held.datasets:
        after = "" if not held.done else f"; now {one.successor}" if one.successor else "; nothing is left of it"
        rows.append(("dataset", one.ref, f"{one.rows} of {one.of} rows{after}"))
    rows += [("release", f"{one.ref} ({one.alias})" if one.alias else one.ref, one.because) for one in held.releases]
    rows += [("turns", str(held.turns), "")] if held.turns else []
    rows += [("question", one, "") for one in held.questions]
    table(f"What holds {held.kind} {held.ref}", ("what", "which", ""), rows)
    note("Forgotten: the next turn of the wheel builds the rest without it." if held.done else "Nothing was changed.")


@app.command()
def conversations(
    recipe: Annotated[str, typer.Option(help="A recipe file.")],
    paths: Annotated[list[str] | None, typer.Argument(help="Files or directories, instead of the recipe's.")] = None,
    category: Annotated[list[str] | None, typer.Option(help="Only of this category; may be given again.")] = None,
    since: Annotated[str | None, typer.Option(help="Only from this date on (2026-01-31).")] = None,
    until: Annotated[str | None, typer.Option(help="Only up to this date.")] = None,
    min_quality: Annotated[float | None, typer.Option(help="Only with at least this score, 0 to 1.")] = None,
    mode: AskedMode = None,
    detach: Detach = False,
    as_json: Json = False,
) -> None:
    """Turn conversations into a dataset: import, thread, categorise, score, filter."""
    asked = {
        "paths": absolute(paths) if paths else None,
        "categories": category or None,
        "since": since,
        "until": until,
        "min_quality": min_quality,
    }
    loaded = merged(ConversationsRecipe, recipe, "treadle data conversations", asked)
    emit(home.launch_anywhere("data_jobs.conversations", loaded, detach, mode), as_json)


@app.command()
def synthesise(
    corpus: Annotated[str | None, typer.Option(help="From the passages of this corpus.")] = None,
    dataset: Annotated[str | None, typer.Option(help="The dataset to make.")] = None,
    agent: Annotated[str | None, typer.Option(help="The agent that is to learn it.")] = None,
    recipe: Annotated[str | None, typer.Option(help="A recipe file; options given beside it go first.")] = None,
    max_samples: Annotated[int | None, typer.Option(help="As many rows at most, spread over the documents.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="qa, reasoning; may be given again.")] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="An OpenAI-compatible endpoint; default: the refiner's, else templates.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model there.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how much would be asked.")] = False,
    mode: AskedMode = None,
    detach: Detach = False,
    as_json: Json = False,
) -> None:
    """Make questions and answers from a corpus: by the refiner model, or by templates where there is none."""
    asked = {
        "corpus": corpus,
        "dataset": dataset,
        "agent": agent,
        "max_samples": max_samples,
        "kinds": kind or None,
        "endpoint": endpoint,
        "model": model,
        "dry_run": dry_run or None,
    }
    loaded = merged(SynthesiseRecipe, recipe, "treadle data synthesise", asked)
    emit(home.launch_anywhere("data_jobs.synthesise", loaded, detach, mode), as_json)


@app.command()
def search(
    question: str,
    corpus: Annotated[str, typer.Option(help="Which corpus.")],
    k: Annotated[int, typer.Option("-k", help="How many passages.")] = 5,
    user: Annotated[str | None, typer.Option(help="Only what this user may read; default: everything.")] = None,
    role: Annotated[Role, typer.Option(help="That user's role.")] = "user",
    as_json: Json = False,
) -> None:
    """Find passages, as an agent would."""
    from cluster.embedding import Embedder
    from cluster.passage_index import PassageIndex

    with home.catalog.reading() as work:
        version = corpora.newest(work, corpus)
    index = PassageIndex.open(home.artifacts.fetch(version.index_uri))
    vector = Embedder(home.settings.models.embedder.location).embed([question])[0] if index.dimension else None
    hits = index.search(question, vector, k, Reader(user=user, role=role) if user is not None else None)
    found = [
        {"score": hit.score, "source": hit.passage.source, "heading": hit.passage.heading, "text": hit.passage.text}
        | ({"page": hit.passage.page} if hit.passage.page else {})
        for hit in hits
    ]
    rows = [(f"{one['score']:.4f}", one["source"], one["text"]) for one in found]
    emit(found, as_json, lambda: table(f"{corpus} version {version.version}", ("score", "source", "passage"), rows))


@app.command("corpora")
def list_corpora(as_json: Json = False) -> None:
    """List corpora and their versions."""
    with home.catalog.reading() as work:
        found = [version for name in corpora.names(work) for version in corpora.versions(work, name)]
        marked = forgotten.marks(work, "corpus")
    rows = [(one.corpus, one.version, one.documents, one.passages, one.digest[:12], marked.get(one.corpus, "")) for one in found]
    emit(
        [{**one.model_dump(), "rebuild": marked.get(one.corpus)} for one in found],
        as_json,
        lambda: table("Corpora", ("corpus", "version", "documents", "passages", "digest", "to be built again"), rows),
    )


@app.command("datasets")
def list_datasets(as_json: Json = False) -> None:
    """List datasets, newest first."""
    with home.catalog.reading() as work:
        found = datasets.everything(work)
        marked = forgotten.marks(work, "dataset")
    rows = [
        (one.ref, one.kind, one.agent, one.rows, f"{one.created_at:%Y-%m-%d %H:%M}", marked.get(one.digest, "")) for one in found
    ]
    emit(
        [{**one.model_dump(mode="json"), "replaced": marked.get(one.digest)} for one in found],
        as_json,
        lambda: table("Datasets", ("dataset", "kind", "agent", "rows", "made", "replaced because it"), rows),
    )


@app.command()
def export(
    name: Annotated[str, typer.Argument(help="A dataset, or a corpus with --corpus.")],
    corpus: Annotated[bool, typer.Option("--corpus", help="The passages of a corpus, not the rows of a dataset.")] = False,
    form: Annotated[Form, typer.Option(help="jsonl, csv or parquet.")] = "jsonl",
    output: Annotated[str | None, typer.Option("--output", "-o", help="A file; without it, JSON lines or CSV on stdout.")] = None,
    as_json: Json = False,
) -> None:
    """Write a dataset's rows, or a corpus's passages with document, chunk number and offsets."""
    from cluster.export import export_rows

    if corpus:
        from cluster.passage_index import PassageIndex

        with home.catalog.reading() as work:
            version = corpora.newest(work, name)
        rows: Iterator[Frozen] = PassageIndex.open(home.artifacts.fetch(version.index_uri)).passages()
    else:
        with home.catalog.reading() as work:
            found = datasets.get(work, name)
        rows = iter(home.artifacts.read_rows(found.uri))
    written = export_rows(rows, form, Path(output) if output else None)
    if output:
        emit({"rows": written, "file": output}, as_json, lambda: note(f"{written:,} rows in {output}"))


def merged(kind: type[R], recipe: str | None, command: str, asked: dict[str, Any]) -> R:
    """A recipe from a file (or nothing) with the options that were given put over it. Raises RecipeError naming the key."""
    given: dict[str, Any] = read_yaml(Path(recipe), RecipeError) if recipe else {}
    made: R = parse(
        kind, {**given, **{key: value for key, value in asked.items() if value is not None}}, recipe or command, RecipeError
    )
    return made


def absolute(paths: list[str]) -> tuple[str, ...]:
    """Paths as jobs on this machine find them, wherever they run; URLs as they are."""
    return tuple(_absolute(path) for path in paths)


def _absolute(path: str) -> str:
    if "://" in path:
        return path
    kind, plus, place = path.partition("+")
    return f"git+{Path(place).absolute()}" if (kind, plus) == ("git", "+") else str(Path(path).absolute())
