"""Documents, corpora and datasets."""

from typing import Annotated

import typer

from cluster.catalog import corpora, datasets
from cluster.cli.console import Detach, Json, emit, home, table
from cluster.domain.recipes import ConversationsRecipe, IngestRecipe
from cluster.settings import load_recipe

app = typer.Typer(no_args_is_help=True)


@app.command()
def ingest(
    paths: Annotated[list[str], typer.Argument(help="Files or directories.")],
    corpus: Annotated[str, typer.Option(help="The corpus to make a new version of.")],
    chunk_size: Annotated[int, typer.Option(help="Characters per passage.")] = 512,
    overlap: Annotated[int, typer.Option(help="Characters that neighbours share.")] = 50,
    detach: Detach = False,
    as_json: Json = False,
) -> None:
    """Read documents, wash them, drop duplicates, chunk and index them."""
    recipe = IngestRecipe(paths=absolute(paths), corpus=corpus, chunk_size=chunk_size, overlap=overlap)
    result = home.launch("data_jobs.ingest", recipe, detach)
    emit(result, as_json)


@app.command()
def conversations(
    recipe: Annotated[str, typer.Option(help="A recipe file.")],
    detach: Detach = False,
    as_json: Json = False,
) -> None:
    """Turn conversation files into a dataset."""
    loaded = load_recipe(ConversationsRecipe, recipe)
    emit(home.launch("data_jobs.conversations", loaded, detach), as_json)


@app.command()
def search(
    question: str,
    corpus: Annotated[str, typer.Option(help="Which corpus.")],
    k: Annotated[int, typer.Option("-k", help="How many passages.")] = 5,
    as_json: Json = False,
) -> None:
    """Find passages, as an agent would."""
    from cluster.embedding import Embedder
    from cluster.passage_index import PassageIndex

    with home.catalog.reading() as work:
        version = corpora.newest(work, corpus)
    index = PassageIndex.open(home.artifacts.fetch(version.index_uri))
    vector = Embedder(home.settings.models.embedder.location).embed([question])[0]
    hits = index.search(question, vector, k)
    found = [
        {"score": hit.score, "source": hit.passage.source, "heading": hit.passage.heading, "text": hit.passage.text}
        for hit in hits
    ]
    rows = [(f"{one['score']:.4f}", one["source"], one["text"]) for one in found]
    emit(found, as_json, lambda: table(f"{corpus} version {version.version}", ("score", "source", "passage"), rows))


@app.command("corpora")
def list_corpora(as_json: Json = False) -> None:
    """List corpora and their versions."""
    with home.catalog.reading() as work:
        found = [version for name in corpora.names(work) for version in corpora.versions(work, name)]
    rows = [(one.corpus, one.version, one.documents, one.passages, one.digest[:12]) for one in found]
    emit(
        [one.model_dump() for one in found],
        as_json,
        lambda: table("Corpora", ("corpus", "version", "documents", "passages", "digest"), rows),
    )


@app.command("datasets")
def list_datasets(as_json: Json = False) -> None:
    """List datasets, newest first."""
    with home.catalog.reading() as work:
        found = datasets.everything(work)
    rows = [(one.ref, one.kind, one.agent, one.rows, f"{one.created_at:%Y-%m-%d %H:%M}") for one in found]
    emit(
        [one.model_dump(mode="json") for one in found],
        as_json,
        lambda: table("Datasets", ("dataset", "kind", "agent", "rows", "made"), rows),
    )


@app.command()
def export(dataset: str, as_json: Json = False) -> None:
    """Print a dataset's rows as JSON lines."""
    with home.catalog.reading() as work:
        found = datasets.get(work, dataset)
    for row in home.artifacts.read_rows(found.uri):
        print(row.model_dump_json())


def absolute(paths: list[str]) -> tuple[str, ...]:
    """Paths as jobs on this machine find them, wherever they run; URLs as they are."""
    from pathlib import Path

    return tuple(path if "://" in path else str(Path(path).absolute()) for path in paths)
