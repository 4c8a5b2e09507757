"""The trained classifier: two linear heads, for questions and for passages, over hashed n-grams, pattern hits and form.

numpy only. A head's threshold is asked for by the share of ordinary texts that it may wrongly stop, which it knows from texts that it had
not seen when it was fitted (cross-validation); what it has not been shown, it does not know.
"""

import json
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple, Sequence

import numpy as np

from cluster.errors import InvalidInput
from cluster.guarding import features, pieces
from cluster.guarding.bank import Hit
from cluster.guarding.features import BUCKETS, FAMILIES, Floats, Sparse

FORMAT = 1
HEADS = ("input", "passages")
STYLES = 8
"""Features of a question's form, before its pattern hits."""


class HeadArrays(NamedTuple):
    """One head: ``rarity`` (FAMILIES, BUCKETS), ``words`` (FAMILIES * BUCKETS,), ``dense`` (k,) and ``bias``; ``ordinary`` (n,) are the
    held-out scores of ordinary texts, descending."""

    rarity: Floats
    words: Floats
    dense: Floats
    bias: float
    ordinary: Floats

    def threshold(self, rate: float) -> float:
        """The score that about ``rate`` of ordinary texts pass; between two of them where there are few."""
        place = rate * (len(self.ordinary) - 1)
        return float(np.interp(place, np.arange(len(self.ordinary)), self.ordinary))


class Classifier(NamedTuple):
    """Both heads, and the kinds of the bank that the input head knows as features, in order."""

    heads: dict[str, HeadArrays]
    kinds: tuple[str, ...]

    def score(self, place: str, folded: str, hits: Sequence[Hit] = ()) -> float:
        """How much like an attack the folded text is; compare it with the head's threshold."""
        head = self.heads[place]
        rows, dense = (question if place == "input" else passage)(folded, hits, self.kinds)
        return float(scores(head, features.weighted(features.counts(rows), head.rarity, len(rows)), dense).max())


def question(folded: str, hits: Sequence[Hit], kinds: Sequence[str]) -> tuple[list[str], Floats]:
    """The rows of a question (the whole and its windows), and their dense features; hits of some weight count for the whole."""
    rows = pieces.windows(folded)
    dense = np.zeros((len(rows), STYLES + 2 * len(kinds)), dtype=np.float32)
    for number, row in enumerate(rows):
        dense[number, :STYLES] = _style(row)
    for hit in hits:
        if hit.kind in kinds and hit.severity != "low":
            column = STYLES + 2 * kinds.index(hit.kind) + (hit.severity == "high")
            dense[0, column] = min(dense[0, column] + 1, 3)
    return rows, dense


def passage(folded: str, hits: Sequence[Hit] = (), kinds: Sequence[str] = ()) -> tuple[list[str], Floats]:
    """The rows of a passage, its sentences, and their dense features."""
    rows = pieces.sentences(folded)
    return rows, np.array(pieces.form(rows), dtype=np.float32)


def scores(head: HeadArrays, seen: Sparse, dense: Floats) -> Floats:
    """The score of each row (n,)."""
    lexical = np.bincount(seen.row, seen.value * head.words[seen.column], minlength=len(dense))
    # einsum, not @: BLAS would wake its threads for so small a product.
    return np.asarray(lexical + np.einsum("nk,k->n", dense, head.dense) + head.bias, dtype=np.float32)


def _style(text: str) -> list[float]:
    length = max(len(text), 1)
    words = text.split()
    letters = sum(map(str.isalpha, text))
    longest = max(map(len, words), default=0)
    return [
        min(len(text), 4000) / 2000,
        float(len(text) > 600),
        1 - (letters + text.count(" ")) / length,
        1 - len(set(words)) / max(len(words), 1),
        float(longest > 40),
        text.count('"') * 20 / (length + 200),
        (text.count("[") + text.count("<") + text.count("%")) * 20 / (length + 200),
        0.0 if text.isascii() else 1.0,
    ]


def save(directory: Path, classifier: Classifier, metrics: dict[str, float]) -> None:
    """Write ``guard.npz`` (float16 where it is large) and ``guard.json``."""
    values: dict[str, Floats] = {}
    for name, head in classifier.heads.items():
        for field in ("rarity", "words"):
            values[f"{name}.{field}"] = getattr(head, field).astype(np.float16)
        values |= {
            f"{name}.dense": head.dense,
            f"{name}.ordinary": head.ordinary,
            f"{name}.bias": np.array([head.bias], dtype=np.float32),
        }
    np.savez_compressed(directory / "guard.npz", **values)  # type: ignore[arg-type]
    about = {"format": FORMAT, "kinds": list(classifier.kinds), "heads": list(classifier.heads), "metrics": metrics}
    (directory / "guard.json").write_text(json.dumps(about, indent=1), encoding="utf-8")


def load(directory: Path, ref: str) -> Classifier:
    """The classifier in a released bundle. Raises InvalidInput naming ``ref`` when it is of another format, cut short or does not fit."""
    try:
        about = json.loads((directory / "guard.json").read_text(encoding="utf-8"))
        if about.get("format") != FORMAT:
            raise InvalidInput(
                f"Guard {ref} is of format {about.get('format')} and this version reads {FORMAT}; "
                "train it again: treadle train guard --recipe configs/train/guard.yaml"
            )
        with np.load(directory / "guard.npz", allow_pickle=False) as file:
            values = {name: file[name].astype(np.float32) for name in file.files}
        kinds = tuple(str(kind) for kind in about["kinds"])
        heads = {str(name): _head(values, str(name)) for name in about["heads"]}
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise InvalidInput(f"Guard {ref} cannot be read ({type(error).__name__}: {error}); train it again.") from None
    for name, head in heads.items():
        _check(name, head, len(kinds), ref)
    return Classifier(heads, kinds)


def _head(values: dict[str, Floats], name: str) -> HeadArrays:
    parts = [values[f"{name}.{field}"] for field in ("rarity", "words", "dense")]
    return HeadArrays(parts[0], parts[1], parts[2], float(values[f"{name}.bias"][0]), values[f"{name}.ordinary"])


def _check(name: str, head: HeadArrays, kinds: int, ref: str) -> None:
    dense = STYLES + 2 * kinds if name == "input" else pieces.FORMS
    wanted = ((FAMILIES, BUCKETS), (FAMILIES * BUCKETS,), (dense,))
    found = (head.rarity.shape, head.words.shape, head.dense.shape)
    if name not in HEADS or found != wanted or not len(head.ordinary):
        raise InvalidInput(f"Guard {ref} has a head '{name}' of shapes {found}, not {wanted}; train it again.")
    if not all(np.isfinite(one).all() for one in (*head[:3], head.ordinary, np.array([head.bias]))):
        raise InvalidInput(f"Guard {ref} has numbers that are none in its head '{name}'; train it again.")
