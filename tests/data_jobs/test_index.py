"""What an index is made of, and the recipes that ship."""

from pathlib import Path
from typing import Any

import pytest

from cluster.domain.data_recipes import IngestRecipe
from cluster.domain.documents import Passage
from cluster.domain.recipes import RECIPES
from cluster.settings import ROOT, SourcesSettings, load_recipe
from data_jobs.index import as_embedded, corpus_digest, how_indexed
from data_jobs.sources import gather


def test_the_digest_knows_documents_chunking_and_embedder_but_no_order() -> None:
    def digest(documents: list[str], embedder: str = "e@1", **changes: Any) -> str:
        return corpus_digest(documents, how_indexed(IngestRecipe(paths=("x",), corpus="c", **changes), embedder))

    base = digest(["a", "b"])
    assert digest(["b", "a"]) == base
    others = [
        digest(["a"]),
        digest(["a", "b"], chunk_size=256),
        digest(["a", "b"], overlap=0),
        digest(["a", "b"], chunk_unit="tokens"),
        digest(["a", "b"], embedder="e@2"),
    ]
    assert len({base, *others}) == 6


def test_a_heading_is_embedded_with_its_passage() -> None:
    passage = Passage(id="d.0", document_id="d", corpus="c", number=0, text="It is 900.", start=0, end=10, heading="House > Rent")
    assert as_embedded(passage) == "House > Rent\nIt is 900."
    bare = passage.model_copy(update={"heading": ""})
    assert as_embedded(bare) == "It is 900."


@pytest.mark.parametrize("file", sorted((ROOT / "configs" / "data").glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_recipes_parse_and_their_paths_exist(file: Path, tmp_path: Path) -> None:
    recipe = load_recipe(RECIPES[f"data_jobs.{file.stem}"], file)
    assert not hasattr(recipe, "paths") or gather(recipe.paths, tmp_path, SourcesSettings()).files
