"""How good a conversation is as an example, in [0, 1], from what can be observed; every deduction has a name.

    0.9   nothing speaks against it            + 0.1   thanked: the user's last words thank

    - 0.5 refused          × share of answers that only apologise or refuse
    - 0.4 user_says_wrong  the user says that an answer is wrong or does not help
    - 0.4 degenerate       × share of answers that are one run of the same words, or without a letter or digit
    - 0.3 repeated_answer  one answer given to different questions
    - 0.3 unanswered       × share of the user's messages without an answer
    - 0.2 asked_again      the user asks nearly the same twice (word sets alike by 0.8, Jaccard)
    - 0.2 other_language   a long answer in another language than its question, where both are certain
    - 0.1 unfinished       it ends in a question of the user, or an answer breaks off

Phrases are English, German, French and Spanish; in another language those deductions are not made. Whether an answer is true, nobody
here can say: a given quality always goes before this one.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

from data_jobs.language import certain_language

BASE, THANKED = 0.9, 0.1
_ALIKE = 0.8
_ENOUGH_FOR_LANGUAGE = 120
_CERTAIN = 0.95
_REFUSAL_WORDS = 25
_WORD = re.compile(r"\w+(?:['’]\w+)*")
_REFUSAL = re.compile(
    r"(?:i(?:['’]m| am) (?:very |so |really )?sorry|(?:we )?apologi[sz]e|my apologies|sorry\b|unfortunately|as an ai\b|"
    r"i (?:can(?:no|['’])t|am (?:not able|unable)|do(?: not|n['’]t) (?:know|have))|"
    r"es tut mir leid|tut mir leid|leider|ich kann (?:ihnen )?(?:dabei )?(?:leider )?nicht|entschuldigung|"
    r"je suis désolée?|désolée?\b|malheureusement|lo siento|lo sentimos|lamentablemente)",
    re.IGNORECASE,
)
_WRONG = re.compile(
    r"\b(?:that(?:['’]s| is| was) (?:not (?:right|correct|true|what)|wrong|incorrect|false)|you(?:['’]re| are) wrong|"
    r"(?:does|did|do)(?:n['’]t| not) (?:work|help|answer)|not what i (?:asked|meant|wanted)|still (?:not|does ?n['’]t|broken)|"
    r"das (?:ist|war) (?:falsch|nicht richtig|nicht korrekt)|das (?:stimmt|hilft|funktioniert|klappt) (?:so )?nicht|"
    r"c['’]est faux|ça ne (?:marche|fonctionne) pas|eso (?:no es correcto|es incorrecto)|no funciona)",
    re.IGNORECASE,
)
_THANKS = re.compile(r"\b(?:thank(?:s| you)|thx|cheers|danke|vielen dank|merci|gracias)\b|^perfect\b", re.IGNORECASE)
_CUT = re.compile(r"[\w,;]\s*(?:\.\.\.|…)?\Z")


class Score(NamedTuple):
    """``value`` in [0, 1]; ``reasons`` name what was deducted or added."""

    value: float
    reasons: tuple[str, ...]


def quality(said: Sequence[Any]) -> Score:
    """The score of messages with ``role`` (user or assistant) and ``content``, consecutive ones of a role joined."""
    asked = [one.content for one in said if one.role == "user"]
    given = [one.content for one in said if one.role == "assistant"]
    pairs = [(a.content, b.content) for a, b in pairwise(said) if (a.role, b.role) == ("user", "assistant")]
    thanked = bool(asked) and _thanks(asked[-1])
    open_end = bool(said) and said[-1].role == "user" and not thanked
    questions = [text for text in asked if not _thanks(text)]
    unanswered = 1 - min(1.0, len(pairs) / len(questions)) if questions else 0.0
    found = {
        "refused": 0.5 * _share(given, _refuses),
        "user_says_wrong": 0.4 * any(_WRONG.search(text) for text in asked[1:]),
        "degenerate": 0.4 * _share(given, _degenerate),
        "repeated_answer": 0.3 * _repeats(pairs),
        "unanswered": 0.3 * unanswered,
        "asked_again": 0.2 * _asked_again(questions),
        "other_language": 0.2 * any(_other_language(*pair) for pair in pairs),
        "unfinished": 0.1 * (open_end or any(_breaks_off(text) for text in given)),
    }
    value = BASE - sum(found.values()) + (THANKED if thanked else 0.0)
    reasons = [name for name, deducted in found.items() if deducted] + ["thanked"] * thanked
    return Score(round(min(1.0, max(0.0, value)), 3), tuple(reasons))


def _share(texts: Sequence[str], of: Any) -> float:
    return sum(map(of, texts)) / len(texts) if texts else 0.0


def _thanks(text: str) -> bool:
    """Whether a message thanks and does little else: "thanks, and how do I …?" is a question."""
    return bool(_THANKS.search(text)) and "?" not in text and not _WRONG.search(text) and len(_words(text)) <= 20


def _refuses(text: str) -> bool:
    """Starts as an apology or refusal, offers nothing in its place and is too short to have helped all the same."""
    return bool(_REFUSAL.match(text.strip())) and "?" not in text and len(_words(text)) <= _REFUSAL_WORDS


def _degenerate(text: str) -> bool:
    """No letter or digit at all; or, in a text of 20 words or more, one word triple makes up a fifth of it or two lines in three are
    repetitions (after the repetition filters of Rae et al., 2021, arXiv:2112.11446, table A1)."""
    found = _words(text)
    if len(found) < 20:
        return not found
    triples = Counter(zip(found, found[1:], found[2:], strict=False))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    most = triples.most_common(1)[0][1]
    return (most > 2 and 3 * most / len(found) > 0.2) or (len(lines) > 3 and len(set(lines)) / len(lines) < 1 / 3)


@lru_cache(maxsize=256)
def _words(text: str) -> tuple[str, ...]:
    """The words, case folded. Kept for a while, because every check of a conversation asks for them."""
    return tuple(_WORD.findall(text.casefold()))


def _repeats(pairs: Sequence[tuple[str, str]]) -> bool:
    """Whether one answer of more than three words was given to two different questions."""
    questions: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for question, answer in pairs:
        if len(_words(answer)) > 3:
            questions.setdefault(_words(answer), set()).add(_words(question))
    return any(len(several) > 1 for several in questions.values())


def _asked_again(questions: Sequence[str]) -> bool:
    sets = [frozenset(_words(text)) for text in questions]
    return any(
        len(a) >= 3 and len(a & b) >= _ALIKE * len(a | b) for place, a in enumerate(sets) for b in sets[max(0, place - 8) : place]
    )


def _breaks_off(text: str) -> bool:
    """Whether a longer text of sentences ends inside one. Lists, code and short answers need no full stop."""
    last = text.rstrip().rpartition("\n")[2].strip()
    return len(_words(last)) >= 12 and ". " in text and bool(_CUT.search(last))


def _other_language(question: str, answer: str) -> bool:
    if min(len(question), len(answer)) < _ENOUGH_FOR_LANGUAGE:
        return False
    asked, given = certain_language(question, _CERTAIN), certain_language(answer, _CERTAIN)
    return asked is not None and given is not None and asked != given
