"""The router's head as training and serving share it: what of a text is looked at, how it is scored, and the released bundle.

A text is seen twice: as its embedding v (a unit vector), compared with landmarks l of every class by the kernel exp(g (v·l - 1)), and as
words, word pairs and character n-grams within words (3 to 5), weighted by tf-idf, each family of unit length, hashed with signs into
``BUCKETS`` columns (Weinberger et al., 2009, arXiv:0902.2206). A class's score is linear in both. numpy only: no scikit-learn in serving.

Knows nothing of word order beyond pairs and what the embedder keeps, and nothing of text past ``SEEN`` characters.
"""

import json
import re
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple, Sequence

import numpy as np
from numpy.typing import NDArray

from cluster.errors import InvalidInput
from cluster.ngrams import PRIME, Keys, character_keys, mixed, word_key

FORMAT = 2
SEEN = 1000
BUCKETS = 2048
FAMILIES = 2
"""Words with their pairs, and character n-grams."""
SCOPE_FEATURES = 7

Floats = NDArray[np.float32]
_WORD = re.compile(r"\w+")


class Grams(NamedTuple):
    """The n-grams of one family in one text: ``keys`` (n,) ascending and unique, ``counts`` (n,)."""

    keys: Keys
    counts: Floats


class Lexicon(NamedTuple):
    """What the training texts hold of one family: ``keys`` (n,) ascending, ``rarity`` (n,) their inverse document frequency."""

    keys: Keys
    rarity: Floats


class Lexical(NamedTuple):
    """A text's known n-grams: columns (n,) below ``BUCKETS`` and signed weights (n,); a column may come twice."""

    columns: NDArray[np.int64]
    weights: Floats


def grams_of(text: str) -> tuple[Grams, ...]:
    """The n-grams of a text by family; case and white space do not count."""
    seen = " ".join(text[:SEEN].lower().split())
    return _unique(_word_keys(_WORD.findall(seen))), _unique(mixed(character_keys([seen])[1]))


def _unique(keys: Keys) -> Grams:
    found, counts = np.unique(keys, return_counts=True)
    return Grams(found, counts.astype(np.float32))


def _word_keys(words: Sequence[str]) -> Keys:
    single = np.array([word_key(word) for word in words], dtype=np.uint32)
    return np.concatenate([single, mixed(single[:-1] * PRIME + single[1:])])


def lexical(grams: Sequence[Grams], lexicons: Sequence[Lexicon]) -> Lexical:
    """tf-idf of the n-grams that the lexicons know (term frequency 1 + ln count), each family of unit length."""
    columns: list[NDArray[np.int64]] = []
    weights: list[Floats] = []
    for held, lexicon in zip(grams, lexicons, strict=True):
        if not len(lexicon.keys) or not len(held.keys):
            continue
        places = np.minimum(np.searchsorted(lexicon.keys, held.keys), len(lexicon.keys) - 1)
        known = lexicon.keys[places] == held.keys
        keys = held.keys[known]
        weight = (1 + np.log(held.counts[known])) * lexicon.rarity[places[known]]
        length = float(np.sqrt((weight * weight).sum()))
        sign = 1 - 2 * ((keys >> np.uint32(31)).astype(np.float32))
        columns.append((keys % BUCKETS).astype(np.int64))
        weights.append(sign * weight / (length or 1.0))
    if not columns:
        return Lexical(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))
    return Lexical(np.concatenate(columns), np.concatenate(weights))


class HeadArrays(NamedTuple):
    """The numbers of a head over c agents, and one column more when "no agent" was taught: ``landmarks`` (m, d), ``near`` (m, classes),
    ``words`` (BUCKETS, classes), ``bias`` (classes,); ``lexicons`` by family; ``scope`` (SCOPE_FEATURES + 1,), its last the
    constant. The first ``owned`` landmarks are of agents, the rest of "no agent"."""

    landmarks: Floats
    near: Floats
    words: Floats
    bias: Floats
    lexicons: tuple[Lexicon, ...]
    scope: Floats
    owned: int


class Head(NamedTuple):
    """A head with what it was told of itself. ``sharpness`` is the kernel's g."""

    arrays: HeadArrays
    agents: tuple[str, ...]
    threshold: float
    temperature: float
    sharpness: float
    embedder: str


def raw_scores(arrays: HeadArrays, sharpness: float, vector: Floats, text: str) -> tuple[Floats, float]:
    """The classes' scores (classes,), about -1 to 1, and the product with the nearest landmark of an agent."""
    # einsum, not @: BLAS would wake its threads for so small a product, and on a busy machine one waits for the other.
    close = np.einsum("md,d->m", arrays.landmarks, vector)
    near = np.einsum("m,mc->c", np.exp(sharpness * (close - 1)), arrays.near)
    seen = lexical(grams_of(text), arrays.lexicons)
    scores = near + np.einsum("n,nc->c", seen.weights, arrays.words[seen.columns]) + arrays.bias
    return scores, float(close[: arrays.owned].max())


def scope_features(scores: Floats, nearest: Floats, agents: int) -> Floats:
    """What says whether a text is for anybody (texts, SCOPE_FEATURES): the best agent's score, its lead over the next and over "no
    agent" (-1 where there is none), the nearest landmark of an agent, and over all agents the soft maximum, mean and spread.
    ``scores`` (texts, classes), ``nearest`` (texts,)."""
    own = scores[:, :agents]
    ordered = np.sort(own, axis=1)
    best = ordered[:, -1]
    second = ordered[:, -2] if agents > 1 else np.full_like(best, -1.0)
    none = scores[:, agents] if scores.shape[1] > agents else np.full_like(best, -1.0)
    soft = best + np.log(np.exp(5 * (own - best[:, None])).sum(axis=1)) / 5
    return np.stack([best, best - second, best - none, nearest, soft, own.mean(axis=1), own.std(axis=1)], axis=1)


def probabilities(scores: Floats, nearest: Floats, agents: int, temperature: float, scope: Floats) -> Floats:
    """By agent (texts, agents): the chance that the text is for anybody, shared out by softmax(score / temperature)."""
    raised = scores[:, :agents] / temperature
    shares = np.exp(raised - raised.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    drive = scope_features(scores, nearest, agents) @ scope[:-1] + scope[-1]
    return np.asarray(shares * (1 / (1 + np.exp(-np.clip(drive, -30, 30))))[:, None], dtype=np.float32)


def agent_scores(head: Head, vector: Floats, text: str) -> Floats:
    """Calibrated probabilities (agents,) for one text with its unit vector (d,); they sum to the chance that it is for anybody."""
    scores, nearest = raw_scores(head.arrays, head.sharpness, vector, text)
    near = np.array([nearest], dtype=np.float32)
    return np.asarray(probabilities(scores[None], near, len(head.agents), head.temperature, head.arrays.scope)[0])


def save(directory: Path, head: Head, metrics: dict[str, float]) -> None:
    """Write ``head.npz`` (float16 where it is large) and ``head.json``."""
    arrays = head.arrays
    lexicons = {f"{name}{i}": value for i, one in enumerate(arrays.lexicons) for name, value in one._asdict().items()}
    small = {name: getattr(arrays, name).astype(np.float16) for name in ("landmarks", "words")}
    exact = {name: getattr(arrays, name).astype(np.float32) for name in ("near", "bias", "scope")}
    np.savez(directory / "head.npz", **small, **exact, **lexicons)
    about = {"format": FORMAT, "agents": list(head.agents), "threshold": head.threshold, "temperature": head.temperature}
    about |= {"sharpness": head.sharpness, "owned": arrays.owned, "embedder": head.embedder, "metrics": metrics}
    (directory / "head.json").write_text(json.dumps(about, indent=1), encoding="utf-8")


def load(directory: Path, ref: str) -> Head:
    """The head in a released bundle. Raises InvalidInput naming ``ref`` when it is of another format, cut short or does not fit itself."""
    try:
        about = json.loads((directory / "head.json").read_text(encoding="utf-8"))
        if about.get("format") != FORMAT:
            raise InvalidInput(
                f"Router head {ref} is of format {about.get('format', 1)} and this version reads {FORMAT}; "
                "train it again: treadle train router --recipe configs/train/router.yaml"
            )
        with np.load(directory / "head.npz", allow_pickle=False) as file:
            values = {name: file[name] for name in file.files}
        lexicons = tuple(Lexicon(values[f"keys{i}"], values[f"rarity{i}"].astype(np.float32)) for i in range(FAMILIES))
        parts = {name: values[name].astype(np.float32) for name in ("landmarks", "near", "words", "bias", "scope")}
        arrays = HeadArrays(**parts, lexicons=lexicons, owned=int(about["owned"]))
        settings = [float(about[name]) for name in ("threshold", "temperature", "sharpness")]
        head = Head(arrays, tuple(about["agents"]), settings[0], settings[1], settings[2], str(about["embedder"]))
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise InvalidInput(f"Router head {ref} cannot be read ({type(error).__name__}: {error}); train it again.") from None
    _check(head, ref)
    return head


def _check(head: Head, ref: str) -> None:
    arrays, agents = head.arrays, len(head.agents)
    rows = arrays.bias.shape[0] if arrays.bias.ndim == 1 else -1
    if rows - agents not in (0, 1) or agents < 1:
        raise InvalidInput(f"Router head {ref} has {rows} classes for {agents} agents; train it again.")
    shapes = {
        "landmarks": (arrays.landmarks.shape, (*arrays.near.shape[:1], *arrays.landmarks.shape[1:2])),
        "near": (arrays.near.shape, (*arrays.landmarks.shape[:1], rows)),
        "words": (arrays.words.shape, (BUCKETS, rows)),
        "scope": (arrays.scope.shape, (SCOPE_FEATURES + 1,)),
        **{f"lexicon {i}": (one.rarity.shape, one.keys.shape) for i, one in enumerate(arrays.lexicons)},
    }
    for name, (found, wanted) in shapes.items():
        if found != wanted or 0 in found[1:]:
            raise InvalidInput(f"Router head {ref} has {name} of shape {found}, not {wanted}; train it again.")
    numbers = (*arrays[:4], arrays.scope, np.array([head.threshold, head.temperature, head.sharpness]))
    if (
        not all(np.isfinite(one).all() for one in numbers)
        or head.temperature <= 0
        or not 0 < arrays.owned <= len(arrays.landmarks)
    ):
        raise InvalidInput(f"Router head {ref} has numbers that are none, or no landmarks of agents; train it again.")
