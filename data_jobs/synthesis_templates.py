"""Pairs from a passage without a model: what its own sentences, lists and commands answer, word for word.

Strict on purpose: a template that is not sure of its sentence makes nothing, and most passages give no pair. English only; passages in
other languages give next to none. Answers are the passage's own words, so they are as true as it is.
"""

import re
from collections.abc import Iterator, Sequence

from cluster.domain.documents import Passage
from data_jobs.synthesis_checks import PARTS, Pair, content_words, normalised
from data_jobs.synthesis_sentences import Piece, lists, plain, sentences

_VERBS = frozenset(
    "add allow append apply archive attach authenticate backup browse build calculate cancel change check choose clean clear clone close "
    "combine commit compare compile compress compute concatenate configure connect convert copy count create debug decode decompress "
    "decrypt define delete deploy describe detach detect disable display download drop dump edit eject emulate enable encode encrypt "
    "enter erase evaluate execute exit expand export extract fetch filter find fix follow force format generate get give grant ignore "
    "import include initialize insert inspect install interrupt invert join keep kill launch limit link list load locate lock log lookup "
    "make manage mark measure merge migrate modify monitor mount move number open order override overwrite pack pass patch pause perform "
    "ping pipe play preview print process publish pull push put query quit read rebuild recover redirect refresh register reload remove "
    "rename repair repeat replace report request reset resize resolve restart restore resume retrieve return reverse revert review rotate "
    "run save scan schedule search select send serve set share show shrink shut sign simulate skip sort specify split start stop store "
    "stream strip submit summarize switch synchronize take tell terminate test toggle trace track transfer translate turn uninstall unlock "
    "unmount unpack update upgrade upload use validate verify view wait watch wipe write zip".split()
)
_NO_SUBJECT = frozenset(
    "it this that these those there here he she they we you i what which who one another each every some any all if when because but and "
    "so also however then now where how why not no nothing both most many our your my his her its their such same first second third next "
    "last following above below in on at for with by from to as or after before while although since until unless let only other others "
    "everything something anything someone anyone note either neither".split()
)
_GOING_ON = frozenset(
    "also another so one note but and it its they he she however then therefore there thus otherwise instead again both neither "
    "finally additionally moreover furthermore similarly likewise".split()
)
_INSIDE = frozenset(
    "in on at for with by from to as and or but if when that which who this these those is are was were has have had be been can could "
    "will would should must may might not it they we you he she so because than then there each every".split()
)
_VERBAL = frozenset("is are was were has have had be been that which and or if when it they you".split())
_GENERIC = frozenset(
    "answer case choice difference example function goal idea issue line main method name next object one only option order output part "
    "point problem purpose question reason rest result rule same second section solution step syntax thing time type use value way "
    "chapter figure table listing code program line".split()
)
_ELSEWHERE = re.compile(
    r"\b(?:above|below|earlier|previous(?:ly)?|following|next|this|these|those|such|here|chapter|section|figure|listing|table|appendix|"
    r"we|our|let['’]s)\b",
    re.IGNORECASE,
)
_DEFINED = re.compile(r"(?P<x>[^\s,;:()]+(?: [^\s,;:()]+){0,4}) is (?P<y>an? .+)")
_EMPTY_KIND = re.compile(
    r"an? (?:bit|lot|good|great|bad|nice|common|big|must|problem|result|case|matter|mistake|pain|shame|little|few|very|similar|"
    r"example|different|single|new|simple|more|much|useful|popular)\b"
)
_AMOUNT = (
    r"(?:[€$£]\s?\d|\d|(?:January|February|March|April|May|June|July|August|September|October|November|December|Monday|Tuesday|"
)
_AMOUNT += r"Wednesday|Thursday|Friday|Saturday|Sunday)\b)"
_MEASURED = re.compile(
    rf"(?P<x>The [^,;:()]+? (?:of|for|at|in) [^,;:()]+?) (?P<verb>is|are|was|were) (?P<y>{_AMOUNT}[^,;:()]*)\."
)
_COSTS = re.compile(r"(?P<x>[^,;:()]+?) costs (?P<y>(?:[€$£]\s?)?\d[^,;:()]*)\.")
_DATED = re.compile(
    r"(?P<x>[^,;:()]+?) (?P<verb>was|were) (?P<did>founded|built|released|introduced|established|opened|created|published|launched|"
    r"completed|renamed|signed|adopted) (?P<y>(?:in|on) (?:[^,;:()]* )?\d{4})\b[^;:()]*\."
)
_STATED = re.compile(
    rf"^[-*+]?[ \t]*\**(?P<key>[A-Z][a-z]+(?: [a-z]+){{0,2}})\**:\**[ \t]+(?P<value>{_AMOUNT}[^\n.;:]{{0,40}})\.?$", re.MULTILINE
)
_COMMAND = re.compile(
    r"^(?:[-*][ \t]+)?(?P<d>[A-Z\[][^\n`:]{7,100}):[ \t]*\n(?:[ \t]*\n)?(?:[ \t]*`(?P<c>[^`\n]+)`[ \t]*$|"
    r"```[a-z]*\n(?P<f>[^\n`]+)\n```[ \t]*$)",
    re.MULTILINE,
)
_HAVING = re.compile(
    r"(?P<x>.+?) (?P<verb>includes?|supports?|needs?|requires?|contains?|provides?|offers?|accepts?) "
    r"(?:the )?following (?P<n>[\w-]+(?: [\w-]+){0,2}):"
)
_LISTING = re.compile(r"The following (?P<n>[\w-]+(?: [\w-]+){0,2}) are (?P<rest>[\w ,-]+):")
_HOW = re.compile(r"(?:How to|To) (?P<do>[a-z]+\b[^,;:.]{3,80})")
_FLAT_HEADINGS = re.compile(
    r"(?:introduction|overview|summary|conclusions?|notes?|examples?|usage|contents?|references|see also|more information|background|"
    r"details|\W*\d[\d.\W]*|(?:chapter|part|section|page) \w+)\W*",
    re.IGNORECASE,
)


def pairs(passage: Passage, whole_start: bool, kinds: Sequence[str], most: int) -> list[Pair]:
    """The passage's pairs, ``most`` of each kind, each question once. ``whole_start``: whether it begins where a sentence does."""
    makers = {"qa": (_commands, _steps, _listed, _stated, _facts, _definitions, _heading), "reasoning": (_reasoning,)}
    made: list[Pair] = []
    for kind in kinds:
        found: dict[str, Pair] = {}
        for one in (pair for maker in makers[kind] for pair in maker(passage, whole_start)):
            found.setdefault(normalised(one.question), one)
        made += list(found.values())[:most]
    return made


def _qa(passage: Passage, question: str, answer: str, start: int, end: int) -> Pair:
    return Pair(kind="qa", question=question, answer=answer, span=passage.text[start:end])


def _named(subject: str) -> bool:
    """Whether a sentence's subject names something by itself: no pronoun, no clause, no thing that only its context explains."""
    found = subject.split()
    lower = [word.strip("`*\"'").casefold() for word in found]
    if not found or lower[0] in _NO_SUBJECT or _INSIDE & set(lower) or (subject.startswith(("`", "[", "!")) and len(found) > 4):
        return False
    article = lower[0] in ("a", "an", "the")
    bare = lower[1:] if article else lower
    return bool(bare) and bare[-1] not in _GENERIC and not (lower[0] == "the" and len(bare) == 1)


def _inside(subject: str) -> str:
    """A sentence's first words inside a question: a leading article in lower case, names as they are."""
    first, _, rest = subject.partition(" ")
    return f"{first.lower()} {rest}" if first in ("A", "An", "The") else subject


def _definitions(passage: Passage, whole_start: bool) -> Iterator[Pair]:
    for piece in sentences(passage.text, whole_start):
        found = _DEFINED.fullmatch(piece.text)
        if found is None or _ELSEWHERE.search(piece.text) or not _named(found["x"]) or _EMPTY_KIND.match(found["y"]):
            continue
        if len(content_words(found["y"])) >= 3 and piece.text.endswith("."):
            yield _from(passage, f"What is {_inside(found['x'])}?", piece)


def _from(passage: Passage, question: str, piece: Piece) -> Pair:
    return _qa(passage, question, piece.text, piece.start, piece.end)


def _facts(passage: Passage, whole_start: bool) -> Iterator[Pair]:
    for piece in sentences(passage.text, whole_start):
        if _ELSEWHERE.search(piece.text):
            continue
        if found := _MEASURED.fullmatch(piece.text):
            kind, _, of = found["x"][4:].partition(" ")
            if len(found["y"].split()) <= 6 and kind and of and _clean(found["x"]):
                yield _from(passage, f"What {found['verb']} {_inside(found['x'])}?", piece)
        elif (found := _DATED.fullmatch(piece.text)) and _named(found["x"]):
            yield _from(passage, f"When {found['verb']} {_inside(found['x'])} {found['did']}?", piece)
        elif (
            (found := _COSTS.fullmatch(piece.text)) and _clean(found["x"]) and found["x"].split()[0].casefold() not in _NO_SUBJECT
        ):
            yield _from(passage, f"How much does {_inside(found['x'])} cost?", piece)


def _clean(subject: str) -> bool:
    """Whether a subject with prepositions in it has no verb or conjunction."""
    verbs = {
        "is",
        "are",
        "was",
        "were",
        "has",
        "have",
        "had",
        "be",
        "been",
        "that",
        "which",
        "and",
        "or",
        "if",
        "when",
        "it",
        "they",
        "you",
    }
    return len(subject.split()) <= 12 and not verbs & {word.casefold() for word in subject.split()}


def _stated(passage: Passage, whole_start: bool) -> Iterator[Pair]:
    """``Rent: 900 euros`` below a heading that says whose."""
    about = _last(passage.heading)
    if about and len(about.split()) <= 8 and not _FLAT_HEADINGS.fullmatch(about) and "```" not in passage.text:
        for found in _STATED.finditer(passage.text):
            if found["key"].split()[-1].lower() in _GENERIC:
                continue
            question = f'According to "{about}", what is the {found["key"].lower()}?'
            yield _qa(passage, question, f"{found['key']}: {plain(found['value'])}", found.start("key"), found.end("value"))


def _heading(passage: Passage, whole_start: bool) -> Iterator[Pair]:
    """The sentence that takes up every word of its section's heading, and the one after it."""
    above, _, about = passage.heading.rpartition(" > ")
    title, wanted = plain(above.split(" > ")[0]), set(content_words(about))
    flat = _FLAT_HEADINGS.fullmatch(about) or _FLAT_HEADINGS.fullmatch(title)
    if not title or len(wanted) < 2 or flat or title.casefold() == about.casefold() or "?" in about:
        return
    found = list(sentences(passage.text, whole_start))
    for place, piece in enumerate(found):
        if wanted <= set(content_words(piece.text)) and len(piece.text.split()) >= 10 and _stands_alone(piece):
            rest = [one for one in found[place + 1 : place + 2] if not _ELSEWHERE.search(one.text) and one.text.endswith(".")]
            end = rest[0].end if rest and not passage.text[piece.end : rest[0].start].strip() else piece.end
            answer = f"{piece.text} {rest[0].text}" if end != piece.end else piece.text
            yield _qa(passage, f'What does "{title}" say about "{plain(about)}"?', answer, piece.start, end)
            return


def _stands_alone(piece: Piece) -> bool:
    """Whether a statement neither points elsewhere nor goes on from what was said before it."""
    first = piece.text.split()[0].strip(",").casefold()
    return first not in _GOING_ON and piece.text.endswith(".") and not _ELSEWHERE.search(piece.text)


def _last(heading: str) -> str:
    return plain(heading.rpartition(" > ")[2])


def _commands(passage: Passage, whole_start: bool) -> Iterator[Pair]:
    """A line that says what to do, and the command under it."""
    about = _last(passage.heading)
    for found in _COMMAND.finditer(passage.text):
        # Some collections mark the letters that an option stands for: e[x]tract.
        told = re.sub(r"\s*\([^)]*\)?", "", re.sub(r"\[(\w+)\]", r"\1", plain(found["d"]))).strip()
        command = (found["c"] or found["f"]).strip().removeprefix("$ ")
        if told.split()[0].lower() not in _VERBS or "[" in told or len(command) < 2:
            continue
        tool = _tool(about, command)
        if not tool and len(content_words(told)) < 4:
            continue  # "display help" of what?
        yield _qa(
            passage, f"Which {tool}command do you use to {told[0].lower()}{told[1:]}?", command, found.start("d"), found.end()
        )


def _tool(about: str, command: str) -> str:
    """The heading, with a space, where the command begins with it; under git-commit it may begin with git commit."""
    begins = f"{command.removeprefix('sudo ')} ".casefold()
    return next(
        (f"{name} " for name in (about, about.replace("-", " ")) if name and begins.startswith(f"{name.casefold()} ")), ""
    )


def _listed(passage: Passage, whole_start: bool) -> Iterator[Pair]:
    for one in lists(passage.text, whole_start):
        if one.numbered or any(len(item.split()) > 30 or item.endswith(":") for item in one.items):
            continue
        answer = "\n".join(f"- {item}" for item in one.items)
        if found := _LISTING.fullmatch(one.intro):
            yield _qa(passage, f"Which {found['n']} are {found['rest']}?", answer, one.start, one.end)
        elif (found := _HAVING.fullmatch(one.intro)) and _named(found["x"]):
            base = found["verb"].removesuffix("s")
            do = "does" if found["verb"].endswith("s") else "do"
            yield _qa(passage, f"Which {found['n']} {do} {_inside(found['x'])} {base}?", answer, one.start, one.end)


def _procedures(passage: Passage, whole_start: bool) -> Iterator[tuple[str, tuple[str, ...], int, int]]:
    """Numbered steps whose goal is said: what is done, the steps, and where they are."""
    for one in lists(passage.text, whole_start):
        goal = _HOW.match(one.intro) or (
            _HOW.match(_last(passage.heading)) if not one.intro or len(one.intro.split()) <= 8 else None
        )
        if one.numbered and goal and goal["do"].split()[0] in _VERBS and all(len(item.split()) >= 2 for item in one.items):
            yield goal["do"].strip(), one.items, one.start, one.end


def _steps(passage: Passage, whole_start: bool) -> Iterator[Pair]:
    for goal, items, start, end in _procedures(passage, whole_start):
        yield _qa(passage, f"How do you {goal}?", _numbered(items), start, end)


def _reasoning(passage: Passage, whole_start: bool) -> Iterator[Pair]:
    for goal, items, start, end in _procedures(passage, whole_start):
        parts = (
            f"The question is how to {goal}. The source gives {len(items)} steps for it, in order.",
            f'Follow the steps in the order given, from "{items[0].rstrip(".")}" to "{items[-1].rstrip(".")}".',
            f"\n{_numbered(items)}",
            f'None of the {len(items)} steps is left out, and the last one done is "{items[-1].rstrip(".")}".',
        )
        answer = "\n".join(
            f"{label}: {text}" if text[0] != "\n" else f"{label}:{text}" for label, text in zip(PARTS, parts, strict=True)
        )
        question = f"How do you {goal}? Work it out step by step: analyse, plan, execute, verify."
        yield Pair(kind="reasoning", question=question, answer=answer, span=passage.text[start:end])


def _numbered(items: Sequence[str]) -> str:
    return "\n".join(f"{number}. {item}" for number, item in enumerate(items, 1))
