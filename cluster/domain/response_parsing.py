"""Which part of what a model wrote is the answer: without simulated dialogue, leaked marks of the chat template, and reasoning.

One pass, linear in the text, with the same outcome whatever pieces the text comes in. Held back is only what may be the beginning of
something to strip: a mark that is not whole yet, white space that may be the last, and up to ``WINDOW`` characters after a line that
begins with "User:". Code (in fences or backticks) is left alone, and so is what the question itself holds: a mark that it asks about, a
dialogue that it asks for. A text without marks and roles stays as it is, but for white space around it.
"""

import re
from collections.abc import Callable, Iterable
from typing import Literal

from pydantic import Field

from cluster.domain.base import Frozen
from cluster.domain.patterns import compiled
from cluster.domain.response_marks import LOOK, ROLES, STRUCK, Marks, role_at

Kind = Literal["dialogue", "template", "reasoning"]
WINDOW = 400
INDENT = 4
"""Blanks before the first line that are code and stay, as Markdown has it."""
_HEAD = 80
_NEXT = re.compile(r"[<\[\n]")
_TICKS = re.compile(r"`+")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})([^\n]*)")
_HEADING = re.compile(r" {0,3}#{1,6}(?: |$)")
_RECORD = r"^\s{0,3}(?:[-*+] |\d+\. )?(?:\*\*)?[A-Z][\w /-]{0,30}(?:\*\*)?:(?:\*\*)?(?:\s|$)"
_ASKED_FOR = r"\b(?:dialog(?:ue)?s?|conversations?|transcripts?|interviews?|role-?plays?|chat ?logs?|user:|human:|assistant:)"
# What is left of the confidence after each thing that was stripped.
_SURE = {
    "opens": 0.95,
    "template": 0.9,
    "heading": 0.9,
    "dialogue": 0.8,
    "last": 0.6,
    "asks first": 0.4,
    "thought": 0.98,
    "cut": 0.5,
}


class Stripped(Frozen):
    """What was not the answer. ``confidence`` that the rest is: 1 is certain, and otherwise an order, not a probability."""

    kinds: tuple[Kind, ...] = ()
    confidence: float = Field(default=1.0, ge=0.0, le=1.0)
    removed: str = ""
    reasoning: str = ""


WHOLE = Stripped()


class ResponseParser:
    """One answer's. ``feed`` it the pieces and show what it gives back; after ``finish``, ``stripped`` is whole. ``cut`` says that nothing
    of what is to come will be shown."""

    def __init__(self, marks: Marks, question: str = "", sources: Callable[[], Iterable[str]] = tuple) -> None:
        self._marks, self._question, self._sources = marks, question, sources
        self.cut = False
        self._closing = marks.closing.get(marks.thinking, "")
        self._held = ""
        self._space: list[str] = []
        self._out: list[str] = []
        self._begun = False
        self._fresh = True
        self._head = self._before = self._fence = self._last = ""
        self._runs, self._tick = 0, False
        self._intro = self._headed = self._script = self._struck = False
        self._kinds: list[Kind] = []
        self._confidence = 1.0
        self._over = False
        self._removed: list[str] = []
        self._reasoning: list[str] = []
        if self._closing:
            self._note("reasoning", "thought")

    @property
    def stripped(self) -> Stripped:
        """What was stripped so far."""
        if not self._kinds:
            return WHOLE if self._confidence == 1.0 else Stripped(confidence=self._confidence)
        return Stripped(
            kinds=tuple(self._kinds),
            confidence=round(self._confidence, 3) if self._begun else 0.0,
            removed="".join(self._removed),
            reasoning="".join(self._reasoning).strip(),
        )

    def feed(self, piece: str) -> str:
        """What can be shown now that this came."""
        if not piece:
            return ""
        if self._held or self._fresh or self.cut or self._closing or _NEXT.search(piece):
            self._held += piece
            self._scan(False)
        else:
            self._accept(piece)
        return self._taken()

    def finish(self) -> str:
        """What can be shown now that nothing will come any more; nothing when it is said again."""
        if self._over:
            return ""
        self._over = True
        self._scan(True)
        if self._closing:
            self._confidence *= _SURE["cut"]
        return self._taken()

    def _taken(self) -> str:
        out = self._out
        if not out:
            return ""
        shown = out[0] if len(out) == 1 else "".join(out)
        out.clear()
        return shown

    def _scan(self, final: bool) -> None:
        text, place = self._held, 0
        while place < len(text):
            step = self._step(text, place, final)
            if step is None:
                break
            place = step
        self._held = text[place:]

    def _step(self, text: str, place: int, final: bool) -> int | None:
        """Decides on the text from ``place`` and returns how far; None: what is there is too short to decide."""
        if self.cut:
            self._removed.append(text[place:])
            return len(text)
        if self._closing:
            return self._think(text, place, final)
        if self._fresh and not self._fence:
            found = role_at(text, place, final)
            if found is None:
                return None
            if found[1]:
                return self._role(text, place, found[0] + len(found[1]), found[1], final)
        self._fresh = False
        match = _NEXT.search(text, place)
        end = match.start() if match else len(text)
        if end > place:
            self._accept(text[place:end])
            return end
        if text[place] == "\n":
            self._end_line()
            return place + 1
        if self._fence or self._runs % 2:
            self._accept(text[place])
            return place + 1
        mark = self._marks.at(text, place, final)
        return None if mark is None else self._mark(text, place, mark)

    def _think(self, text: str, place: int, final: bool) -> int | None:
        end = text.find(self._closing, place)
        if end >= 0:
            self._reasoning.append(text[place:end])
            place, self._closing = end + len(self._closing), ""
            self._fresh = not self._begun
            return place
        # All but what may be the beginning of the closing mark.
        keep = (
            0 if final else next((n for n in range(len(self._closing) - 1, 0, -1) if text.endswith(self._closing[:n], place)), 0)
        )
        end = len(text) - keep
        self._reasoning.append(text[place:end])
        return end if end > place else None

    def _mark(self, text: str, place: int, mark: str) -> int:
        if mark in STRUCK:
            struck, self._struck = self._struck, mark == STRUCK[0] and self._begun
            if self._struck or struck:
                mark = ""
        if not mark or any(mark in source for source in self._sources()):
            self._accept(text[place : place + max(1, len(mark))])
            return place + max(1, len(mark))
        match self._marks.known[mark]:
            case "thinks":
                self._note("reasoning", "thought")
                self._closing = self._marks.closing[mark]
            case "thought":
                self._note("reasoning", "cut")
            case "opens" if not self._begun:
                self._note("template", "opens")
            case _:
                return self._end("template", "template", place)
        self._removed.append(mark)
        self._fresh = not self._begun
        return place + len(mark)

    def _role(self, text: str, place: int, after: int, said: str, final: bool) -> int | None:
        """A line that begins with a role, up to ``after``."""
        role = ROLES[said]
        if not self._begun and not role.asks:
            self._note("dialogue", "opens")
            self._removed.append(said)
            return after
        if not self._begun:
            self._confidence *= _SURE["asks first"]
            self._script = True
        elif self._intro or compiled(_ASKED_FOR).search(self._question):
            self._script = True
        if not self._script:
            if not role.heading:
                verdict = self._dialogue(text, place, after, final)
                if verdict is None:
                    return None
                if verdict:
                    return self._end("dialogue", verdict, place)
            elif not self._headed:  # a heading among headings is a document's
                return self._end("dialogue", "heading", place)
        self._fresh = False
        self._accept(text[place:after])
        return after

    def _dialogue(self, text: str, place: int, after: int, final: bool) -> str | None:
        """What says that a line with a role begins a dialogue: "dialogue" that somebody else speaks or a mark comes soon after it, "last"
        that nothing does; "" that it is none: a list of values, or it goes on for long. None: not known yet."""
        limit = place + WINDOW
        for found in _NEXT.finditer(text, after):
            at = found.start()
            if at >= limit:
                break
            if text[at] != "\n":
                mark = self._marks.at(text, at, final)
                if mark != "":
                    return None if mark is None else "dialogue"
                continue
            next_role = role_at(text, at + 1, final)
            if next_role is None:
                return None
            if next_role[1]:
                return "dialogue"
            line, ended, _ = text[at + 1 : at + 1 + LOOK].partition("\n")
            if not ended and len(line) < LOOK and not final:
                return None
            if compiled(_RECORD).search(line):
                return ""
        if len(text) > limit:
            return "" if final or len(text) >= limit + LOOK else None
        if not final:
            return None
        return "" if compiled(_RECORD).search(self._before) else "last"

    def _end(self, kind: Kind, why: str, place: int) -> int:
        self._note(kind, why)
        self.cut = True
        return place

    def _note(self, kind: Kind, why: str) -> None:
        if kind not in self._kinds:
            self._kinds.append(kind)
        self._confidence *= _SURE[why]

    def _accept(self, text: str) -> None:
        """Part of a line of the answer. White space waits for what follows it."""
        if len(self._head) < _HEAD:
            self._head = (self._head + text)[:_HEAD]
        if "`" in text:
            self._runs += len(_TICKS.findall(text)) - (self._tick and text[0] == "`")
            self._tick = text[-1] == "`"
        else:
            self._tick = False
        bare = text.rstrip()
        tail = text[len(bare) :]
        if bare:
            self._last = bare[-1]
            self._out.append(self._after_space(bare) if self._space or not self._begun else bare)
        if tail:
            self._space.append(tail)

    def _after_space(self, bare: str) -> str:
        whole = "".join(self._space) + bare
        self._space.clear()
        if self._begun:
            return whole
        self._begun = True
        body = whole.lstrip()
        indent = whole[: len(whole) - len(body)].rpartition("\n")[2]
        return indent + body if "\t" in indent or len(indent) >= INDENT else body

    def _end_line(self) -> None:
        head = self._head
        if self._fence:
            if head.strip().startswith(self._fence) and not head.strip().strip(self._fence[0]):
                self._fence = ""
        elif found := _FENCE.match(head):
            if found.group(1)[0] == "~" or "`" not in found.group(2):
                self._fence = found.group(1)
        elif _HEADING.match(head):
            self._headed = True
        if head.strip():
            self._intro = self._last == ":"
        self._before, self._head = head, ""
        self._runs, self._tick = 0, False
        self._fresh = True
        self._space.append("\n")


def parsed(text: str, marks: Marks | None = None, question: str = "") -> tuple[str, Stripped]:
    """A whole answer, and what was not of it."""
    parser = ResponseParser(marks or USUAL, question)
    shown = parser.feed(text) + parser.finish()
    return shown, parser.stripped


USUAL = Marks()
