"""Which part of a model's text is the answer, whole and in pieces."""

import time
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cluster.domain.response_marks import ROLES, Marks, marks_of
from cluster.domain.response_parsing import WINDOW, ResponseParser, parsed
from cluster.settings import Settings
from serve_app.bases import open_tokenizer

MARKS = Marks(["<|pad|>", "<s>", "</s>"])
CODE = """Write the dialogue down as YAML:

```yaml
User: hello
Assistant: hi
<|im_end|>
### Human: x
```

Inline, `<|im_start|>` and `[INST]` are marks, and `<think>` is one.

~~~
User: again
Assistant: again
~~~

    User: indented code
"""
ORDINARY = [
    "ls -la",
    "",
    "a < b and b[0] > c[1] if x <y> else [z]",
    "Cited from [1] and [2].",
    CODE.strip(),
    "| a | b |\n|---|---|\n| <1> | [x](http://y) |",
    "<div>\n  <span>User: x</span>\n</div>",
    "Name: pc-3\nUser: alice\nSystem: Debian",
    "- User: the one who asks\n- Assistant: the one who answers",
    "user: root\npassword: x",
    "The user: somebody. Human: no line begins with it.",
    "There are two roles.\n\nUser: may read.\nAdmin: may write.\n",
    "The form has these lines:\n\nUser: your name\nAssistant: the name of your assistant",
    "# Objects\n\n### User:\n- id\n\n### Assistant:\n- id",
    "    indented = code\n    stays = True",
    "Text <s>struck</s> out",
    "x <| y |> z <|> w",
    "```\nan open fence\nUser: x\nAssistant: y",
    "A `code span\nends with its line` and a lone `tick",
    "User" * 3,
    "**User",
    "#",
    "### ",
    "<|im_",
    "[INS",
]


@pytest.mark.parametrize("text", ORDINARY, ids=lambda text: text[:20])
def test_an_ordinary_answer_is_left_byte_for_byte(text: str) -> None:
    shown, stripped = parsed(text.rstrip(), MARKS)
    assert shown == text.rstrip()
    assert stripped.kinds == ()
    assert stripped.removed == stripped.reasoning == ""


@pytest.mark.parametrize(
    ("text", "answer", "kinds"),
    [
        ("It is 9:00.\nUser: and on Sunday?\nAssistant: Closed.", "It is 9:00.", ("dialogue",)),
        ("It is 9:00.\n\nUser: thanks", "It is 9:00.", ("dialogue",)),
        ("It is 9:00.\n\nHuman:", "It is 9:00.", ("dialogue",)),
        ("It is 9:00.\n\n### Human: and on Sunday?\nIt goes on\nfor long.", "It is 9:00.", ("dialogue",)),
        ("It is 9:00.\n### Instruction:\nWrite more.", "It is 9:00.", ("dialogue",)),
        ("It is 9:00.\n**User:** thanks\n**Assistant:** you're welcome", "It is 9:00.", ("dialogue",)),
        ("It is 9:00.\nUser: " + "why? " * 20 + "\nand more\nAssistant: so", "It is 9:00.", ("dialogue",)),
        ("Command: ls\nUser: and hidden ones?\nAssistant: ls -a", "Command: ls", ("dialogue",)),
        ("Assistant: It is 9:00.", "It is 9:00.", ("dialogue",)),
        ("### Response:\nIt is 9:00.", "It is 9:00.", ("dialogue",)),
        ("It is 9:00.<|im_end|>\n<|im_start|>user\nthanks", "It is 9:00.", ("template",)),
        ("<|im_start|>assistant\nIt is 9:00.<|im_end|>", "It is 9:00.", ("template",)),
        ("<|start_header_id|>assistant<|end_header_id|>\n\nIt is 9:00.<|eot_id|>", "It is 9:00.", ("template",)),
        ("It is 9:00. [INST] more [/INST] no", "It is 9:00.", ("template",)),
        ("[/INST] It is 9:00.</s>", "It is 9:00.", ("template",)),
        ("It is 9:00.<|pad|><|pad|>", "It is 9:00.", ("template",)),
        ("It is 9:00.\nUser: thanks<|im_end|>", "It is 9:00.", ("dialogue",)),
        ("<think>Sunday?\nUser: x</think>\n\nIt is 9:00.", "It is 9:00.", ("reasoning",)),
        ("It <think>hm</think>is 9:00.", "It is 9:00.", ("reasoning",)),
        ("It is 9:00.</think>", "It is 9:00.", ("reasoning",)),
        ("<think>never ends", "", ("reasoning",)),
        ("<think>a</think>Assistant: It is 9:00.\nUser: b\nAssistant: c", "It is 9:00.", ("reasoning", "dialogue")),
        ("<|user|>When?", "", ("template",)),
        ("  It is 9:00. \n", "It is 9:00.", ()),
        ("\n\n    x = 1\n    y = 2\n", "    x = 1\n    y = 2", ()),
    ],
)
def test_what_is_not_the_answer_is_stripped(text: str, answer: str, kinds: tuple[str, ...]) -> None:
    shown, stripped = parsed(text, MARKS)
    assert shown == answer
    assert stripped.kinds == kinds
    assert (stripped.confidence == 1.0) is not bool(kinds)
    assert (stripped.confidence == 0.0) is (kinds != () and not answer)


def test_reasoning_and_the_rest_are_kept_apart() -> None:
    _, stripped = parsed("<think>\n9 or 10?\n</think>It is 9:00.\nUser: ok\nAssistant: bye", MARKS)
    assert stripped.reasoning == "9 or 10?"
    assert stripped.removed.endswith("User: ok\nAssistant: bye")


def test_the_surer_the_sign_the_higher_the_confidence() -> None:
    said = ["9:00.<|im_end|>", "9:00.\nUser: x\nAssistant: y", "9:00.\nUser: x", "<think>a</think><think>b"]
    found = [parsed(text, MARKS)[1].confidence for text in said]
    assert all(one > two for one, two in pairwise(found)), found


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What does <|im_end|> mean?", "It is written <|im_end|> and ends a turn."),
        ("Write a dialogue about heating.", "Sure.\n\nUser: it is cold\nAssistant: we come"),
        ("Complete this:\nUser: hi\nAssistant:", "Hello!\nUser: how are you?\nAssistant: fine"),
    ],
)
def test_what_the_question_asks_for_is_left(question: str, answer: str) -> None:
    parser = ResponseParser(MARKS, question, lambda: (question,))
    assert parser.feed(answer) + parser.finish() == answer
    assert parsed(answer, MARKS)[0] != answer


def in_pieces(text: str, cuts: list[int]) -> tuple[str, object, list[str]]:
    parser = ResponseParser(MARKS)
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    pieces = [parser.feed(text[start:end]) for start, end in pairwise(places)]
    return "".join(pieces) + parser.finish(), parser.stripped, pieces


LINES = (
    "\n",
    "\n\n",
    "# h\n",
    "- x\n",
    "a: b\n",
    "like:\n",
    "```\n",
    "~~~\n",
    "\t",
    " ",
    "   ",
    "    ",
    "`",
    "<",
    "</",
    "**",
    ":**",
)
FRAGMENTS = st.sampled_from([*ROLES, *MARKS.known, *LINES, "User", "Assistant: ", "word ", "[1]", "x" * (WINDOW - 3), "y" * 61])
TANGLES = st.lists(FRAGMENTS | st.text(max_size=6), max_size=14).map("".join)


@given(TANGLES, st.lists(st.integers(0, 2000), max_size=30))
@example("It is.\nUser: " + "a " * 195 + "\nAssistant: x", [5, 60, 300])
def test_pieces_give_what_the_whole_gives(text: str, cuts: list[int]) -> None:
    shown, stripped = parsed(text, MARKS)
    assert in_pieces(text, cuts)[:2] == (shown, stripped)
    assert in_pieces(text, list(range(len(text))))[:2] == (shown, stripped)


@given(TANGLES)
def test_what_is_shown_and_what_is_not_were_written(text: str) -> None:
    shown, stripped = parsed(text, MARKS)
    assert shown == shown.rstrip()
    if not stripped.kinds:
        assert shown in text
        assert text.strip() == shown.strip()


@given(st.text(st.characters(exclude_characters="<[:", exclude_categories=["Cs"])))
def test_a_text_without_marks_is_unchanged_but_for_the_white_space_around_it(text: str) -> None:
    shown, stripped = parsed(text, MARKS)
    assert shown.strip() == text.strip()
    assert shown == text.rstrip() or text[0].isspace()
    assert stripped.kinds == ()


def test_ordinary_text_is_shown_at_once() -> None:
    words = "The heating is repaired within 2 days. See [1] for more\nand call us, if a <= b.".replace(" ", "| ").split("|")
    parser = ResponseParser(MARKS)
    shown = [parser.feed(word) for word in words]
    assert [one.strip() for one in shown] == [one.strip() for one in words]


def test_after_a_cut_nothing_is_shown_and_it_is_known_at_once() -> None:
    parser = ResponseParser(MARKS)
    shown = [parser.feed(piece) for piece in ["It is.", "<|im", "_end|>", "more", " and more"]]
    assert (shown, parser.cut) == (["It is.", "", "", "", ""], True)


UNITS = ["\nUser: x", "\nUser: a: b\n", "<", "<|im_", "\n", "`", " ", "<think>", "\n### User: x\n", "# h\n### User:\n"]


@pytest.mark.parametrize("one", UNITS)
def test_it_is_linear(one: str) -> None:
    """A tenfold text takes tenfold the time, not a hundredfold; as a whole and in pieces."""

    def seconds(times: int) -> float:
        start = time.perf_counter()
        parsed("x" + one * times, MARKS)
        parser = ResponseParser(MARKS)
        for piece in ["x", *[one] * times]:
            parser.feed(piece)
        parser.finish()
        return time.perf_counter() - start

    seconds(100)
    short = min(seconds(400) for _ in range(3))
    assert min(seconds(4000) for _ in range(2)) < 40 * short


def test_the_starter_s_own_marks(settings: Settings) -> None:
    tokenizer = open_tokenizer(settings.models.base.location)
    marks = marks_of(tokenizer)
    assert marks is marks_of(tokenizer)
    assert marks.thinking == ""
    talk = [
        {"role": "user", "content": "When?"},
        {"role": "assistant", "content": "At 9:00."},
        {"role": "user", "content": "Why?"},
    ]
    rendered = tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
    said = rendered[rendered.index("<|assistant|>") :]
    assert said == "<|assistant|>At 9:00.<|end|><|user|>Why?<|end|><|assistant|>"
    shown, stripped = parsed(said, marks)
    assert (shown, stripped.kinds) == ("At 9:00.", ("template",))
    for special in tokenizer.all_special_tokens:
        assert parsed(f"At 9:00.{special}x", marks)[0] == "At 9:00."


def test_reasoning_that_the_prompt_opened(settings: Settings) -> None:
    tokenizer = open_tokenizer(settings.models.base.location)
    tokenizer.chat_template = "{{ messages[0]['content'] }}<|assistant|><think>\n"
    marks = marks_of(tokenizer)
    assert marks.thinking == "<think>"
    assert parsed("hm, 9 or 10?\n</think>\n\nAt 9:00.", marks)[0] == "At 9:00."
