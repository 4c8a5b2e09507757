"""Whether a made pair is answerable from its passage, as far as words tell. What is doubtful is refused: fewer rows are better.

Does not understand negation or order: "A before B" and "B before A" have the same words. The round trip through the index and a judge,
where there is one, come after it.
"""

import re
from collections.abc import Iterable

from cluster.domain.base import Frozen
from cluster.domain.documents import Passage

PARTS = ("Analyse", "Plan", "Execute", "Verify")
QA_SUPPORT, REASONING_SUPPORT = 0.75, 0.6
"""The share of an answer's content words that the passage must have. A reasoning answer is measured by its Execute part."""

_WORD = re.compile(r"\w+(?:['’]\w+)?")
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_SUFFIXES = ("ingly", "edly", "ing", "ed", "es", "ly", "s")
_STOP = frozenset(
    "the and for are was were been being has have had does did not with without from into onto that this these those there their they "
    "them then than its his her hers him she you your yours our ours who whom whose which what when where why how all any each both "
    "can could will would shall should may might must but also only very just such some more most other about over under between "
    "because while during before after again once here same too via per upon use used using".split()
)
_OUTSIDE = re.compile(
    r"\b(?:the|this|that|given|above|following) (?:passage|text|excerpt|paragraph|snippet|context)\b|\b(?:mentioned|described) above\b",
    re.IGNORECASE,
)
_NOTHING = re.compile(
    r"(?:the (?:passage|text|document) (?:does|did)(?: not|n['’]t)|(?:it is |it['’]s )?not (?:mentioned|stated|specified|given|clear)|"
    r"i (?:do not|don['’]t) know|n/?a\b|unknown\b|there is no information)",
    re.IGNORECASE,
)


class Pair(Frozen):
    """A question, its answer and the words of the passage that support it."""

    kind: str
    question: str
    answer: str
    span: str


def content_words(text: str) -> list[str]:
    """Case-folded stems of the words that carry meaning: longer than two letters and no function words, or with a digit."""
    found = (word.casefold().replace("’", "'").removesuffix("'s") for word in _WORD.findall(text))
    return [_stem(word) for word in found if (len(word) > 2 and word not in _STOP) or any(map(str.isdigit, word))]


def _stem(word: str) -> str:
    """Without its ending; a doubled last letter and a last e go too, so that stop, stopped and stopping are one, and use and using."""
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            word = word[: -len(suffix)]
            break
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    return word.removesuffix("e") if len(word) > 3 else word


def normalised(question: str) -> str:
    """A question as duplicates are looked up: its words, case folded."""
    return " ".join(word.casefold() for word in _WORD.findall(question))


def located(span: str, text: str) -> tuple[int, int] | None:
    """Where the span lies in the text, white space aside; None where it does not."""
    parts = span.split()
    found = re.search(r"\s+".join(map(re.escape, parts)), text) if parts else None
    return found.span() if found else None


def refusal(pair: Pair, passage: Passage) -> str:
    """The reason against the pair, a word that reports count by; "" when nothing is against it."""
    words = len(_WORD.findall(pair.question))
    if not (3 <= words <= 60) or not pair.question.rstrip().endswith(("?", ".", ":")):
        return "bad_question"
    if not pair.answer.strip() or _NOTHING.match(pair.answer.strip()):
        return "no_answer"
    if _OUTSIDE.search(pair.question):
        return "not_self_contained"
    if located(pair.span, passage.text) is None:
        return "span_not_found"
    if pair.kind == "reasoning" and not _four_parts(pair.answer):
        return "parts_missing"
    if _gives_away(pair):
        return "answer_in_question"
    return "" if _supported(pair, passage) else "unsupported"


def parts_of(answer: str) -> dict[str, str]:
    """The labelled parts of a reasoning answer, in order."""
    pieces = re.split(rf"^({'|'.join(PARTS)}):", answer, flags=re.MULTILINE)
    return {label: text.strip() for label, text in zip(pieces[1::2], pieces[2::2], strict=True)}


def _four_parts(answer: str) -> bool:
    found = parts_of(answer)
    return tuple(found) == PARTS and all(found.values())


def _gives_away(pair: Pair) -> bool:
    asked, given = normalised(pair.question), normalised(pair.answer)
    return f" {given} " in f" {asked} " or (bool(given) and set(given.split()) <= set(asked.split()))


def _supported(pair: Pair, passage: Passage) -> bool:
    """Enough of the answer's words and every number in it come from the passage, its heading or the question."""
    answer = parts_of(pair.answer)["Execute"] if pair.kind == "reasoning" else pair.answer
    known = f"{passage.heading}\n{passage.text}\n{pair.question}"
    stems = content_words(answer)
    if not stems:
        return located(answer, passage.text) is not None
    if not _numbers(answer) <= _numbers(known):
        return False
    least = REASONING_SUPPORT if pair.kind == "reasoning" else QA_SUPPORT
    return _share(stems, set(content_words(known))) >= least


def _numbers(text: str) -> set[str]:
    return set(_NUMBER.findall(text))


def _share(of: Iterable[str], known: set[str]) -> float:
    found = [one in known for one in of]
    return sum(found) / len(found)
