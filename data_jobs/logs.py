"""Logs and stack traces, folded: the head and the tail of a long run stay, and so do lines that say what went wrong.

A run is at least ``fold_from`` lines in a row that are log lines (a time with a level, a thread, a process), frames of a stack trace
(Python, JVM, JavaScript, Go, Rust, .NET), or equal to one another. Everything else is left alone, code and tables too. The line with
an exception's message is no frame, so it always stays.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, islice
from operator import eq

import re2

_LEVELS = "TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|ERR|FATAL|CRITICAL|SEVERE"
_LEVEL = rf"\b(?:{_LEVELS}|{_LEVELS.lower()}|crit|emerg)\b"
_CLOCK = r"[0-9]{2}:[0-9]{2}:[0-9]{2}"
_TIME = rf"[0-9]{{4}}[-/.][0-9]{{2}}[-/.][0-9]{{2}}[T ]{_CLOCK}"
_LOG = (
    # a machine's time (with parts of a second or a zone), or a time and then a level, [thread], host process[1]: or level=
    rf"[ \t]*(?:[\[(<]?{_TIME}(?:[.,][0-9]{{1,9}}|Z|[+-][0-9]{{2}}:?[0-9]{{2}}\b|[^\n]{{0,60}}(?:{_LEVEL}|\[[^\]\n]{{1,40}}\]|level=|msg=))"
    rf"|[\[(]?{_CLOCK}(?:[.,][0-9]{{1,9}})?[\])]?[^\n]{{0,40}}{_LEVEL}"
    # syslog; klog; the kernel's ring buffer
    rf"|(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)  ?[0-9]{{1,2}} {_CLOCK} [^\s]{{1,64}} [^\n:]{{1,60}}:"
    rf"|[IWEF][0-9]{{4}} {_CLOCK}\.[0-9]{{3,6}} |\[ {{0,6}}[0-9]{{1,8}}\.[0-9]{{6}}\] "
    # INFO: …, [WARN] …; an access log; logfmt
    rf"|\[?(?:{_LEVELS})\]?(?::| -|\])[ \t]|[^\s]{{3,64}} [^\s]{{1,64}} [^\s]{{1,64}} \[[0-9]{{2}}/[A-Z][a-z]{{2}}/[0-9]{{4}}:"
    r"|(?:time|ts|level)=[^\s]{1,64} [^\n]{0,100}(?:level|msg)=)"
)
_FRAME_STARTS = r"""[ \t]*(?:at [^\s]|File "|[0-9]{1,4}: +[^\s]|/[^\s:]{1,200}:[0-9]|\.\.\. [0-9]{1,5} (?:more|common))"""
_PROBE = re2.compile(f"(?m)^(?:{_LOG}|{_FRAME_STARTS})".encode())
_LOG_LINE = re.compile(_LOG)
_FRAME_LINE = re.compile(
    r"[ \t]*at (?:async |new )?\S.*(?:\)|:\d+)(?: in .+)?[ \t]*\Z"  # JVM, JavaScript, .NET, Rust's places
    r"|[ \t]*\.\.\. \d+ (?:more|common frames omitted)"
    r"|[ \t]{1,8}\d{1,4}: +(?:0x[0-9a-f]+ - )?[<\w].*(?:::|_)"  # Rust
)
_RUST_FRAME = re.compile(r"[ \t]{1,8}\d{1,4}: ")
_PYTHON_FRAME = re.compile(r'[ \t]*File "[^"]+", line \d+')
_PYTHON_SOURCE = re.compile(r"[ \t]{4,}\S")
_GO_PLACE = re.compile(r"[ \t]*/\S+\.(?:go|s):\d+(?: \+0x[0-9a-f]+)?[ \t]*\Z")
_GO_CALL = re.compile(r"(?:created by )?[\w./*()\[\]{}-]+\S*\(?.*\Z")
_WRONG = re.compile(r"\b(?:ERROR|FATAL|CRITICAL|SEVERE|error|fatal|crit|panic)\b|Exception\b|\A[EF]\d{4} ")
_VARYING = re.compile(r"[0-9a-fA-F]*[0-9][0-9a-fA-F]*")
_LONGEST = 1000


def folded(text: str, fold_from: int) -> tuple[str, int]:
    """The text with long runs folded, and how many lines went. Folding twice changes nothing."""
    if text.count("\n") < fold_from - 1:
        return text, 0
    lines = before = text.split("\n")
    gone = 0
    if sum(map(eq, lines, islice(lines, 1, None))) >= fold_from - 1:
        lines, gone = _equal_folded(lines, fold_from)
    if _enough_signs(text, fold_from):
        for kinds, fold in ((_frames(lines), _frames_folded), (None, _logs_folded)):
            lines, more = _runs_folded(lines, kinds or [2 * _is_log(line) for line in lines], fold, fold_from)
            gone += more
    return ("\n".join(lines), gone) if lines is not before and gone else (text, 0)


def _enough_signs(text: str, fold_from: int) -> bool:
    """A cheap look at the whole: whether it has a third as many beginnings of log lines or frames as a run has lines."""
    found = _PROBE.finditer(text.encode("latin-1", "replace"))
    return next(islice(found, (fold_from - 1) // 3, None), None) is not None


def _equal_folded(lines: Sequence[str], fold_from: int) -> tuple[list[str], int]:
    kept: list[str] = []
    gone = 0
    for line, group in groupby(lines):
        times = sum(1 for _ in group)
        if times >= fold_from and line.strip():
            kept += [line, f"[… the same line {times - 1} times more]"]
            gone += times - 1
        else:
            kept += [line] * times
    return kept, gone


def _is_log(line: str) -> bool:
    return bool(_LOG_LINE.match(line[:200]))


def _frames(lines: Sequence[str]) -> list[int]:
    """2 for a line that begins a frame, 1 for one that goes with it (Python's source, Go's and Rust's place), 0 for any other."""
    found = [0] * len(lines)
    for number, line in enumerate(lines):
        above = lines[number - 1] if number else ""
        if not line or len(line) > _LONGEST:
            continue
        if _PYTHON_FRAME.match(line):
            found[number] = 2
        elif _FRAME_LINE.match(line):
            found[number] = 1 if _RUST_FRAME.match(above) else 2
        elif number and _PYTHON_SOURCE.match(line) and found[number - 1]:
            found[number] = int(any(_PYTHON_FRAME.match(one) for one in lines[max(0, number - 2) : number]))
        elif number and _GO_PLACE.match(line) and _GO_CALL.match(above):
            found[number - 1], found[number] = 2, 1
    return found


def _runs_folded(
    lines: Sequence[str], kinds: Sequence[int], fold: Callable[[Sequence[str], int], Iterator[int]], fold_from: int
) -> tuple[list[str], int]:
    """The lines with each long run of the kind cut down to the places that ``fold`` keeps."""
    result: list[str] = []
    gone = start = 0
    for inside, group in groupby(kinds, bool):
        weights = list(group)
        run = lines[start : start + len(weights)]
        start += len(weights)
        if not inside or weights.count(2) < fold_from:
            result += run
            continue
        place = 0
        for keep in (*fold(run, fold_from), len(run)):
            if keep > place:
                result.append(_mark(keep - place))
                gone += keep - place
            result += run[keep : keep + 1]
            place = keep + 1
    return result, gone


def _mark(number: int) -> str:
    return f"[… {number} {'line' if number == 1 else 'lines'} of the same kind left out]"


def _frames_folded(run: Sequence[str], fold_from: int) -> Iterator[int]:
    yield from (0, 1, 2, 3)
    yield from range(len(run) - 3, len(run))


def _logs_folded(run: Sequence[str], fold_from: int) -> Iterator[int]:
    """The first three, the last two, and the first of each kind of error between, so few that they are no long run themselves."""
    shapes: set[str] = set()
    yield from (0, 1, 2)
    for place in range(3, len(run) - 2):
        if len(shapes) < fold_from - 6 and _WRONG.search(run[place][:300]):
            shape = _VARYING.sub("", run[place][:300])
            if shape not in shapes:
                shapes.add(shape)
                yield place
    yield from (len(run) - 2, len(run) - 1)
