"""Each rule of quality refuses the text that breaks it, and prose passes."""

import pytest

from data_jobs.quality import poor

SENTENCES = (
    "The lift in the east wing is inspected every spring, and the report is kept in the office. ",
    "Tenants who want to read that report ask at the desk between eight and six, with a day of notice. ",
    "A key to the cellar hangs behind the door; whoever takes it writes a name and the time into the book. ",
    "Bins are emptied on Tuesdays, unless that day is a holiday, in which case the crew comes one day later. ",
    "Parcels have to be fetched within ten days, after which they go back to whoever sent them. ",
)
PROSE = "".join(SENTENCES)
WORDS = [f"w{chr(97 + number % 26)}{chr(97 + number // 26 % 26)}rd" for number in range(400)]


def test_prose_passes() -> None:
    assert poor(PROSE) == ""


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("word_count", "The lift is in the east wing, and that is where it stays."),
        ("word_length", "the and of it " + " ".join("ab" for _ in range(100))),
        ("word_length", "the and " + " ".join("abcdefghijklmnop" for _ in range(100))),
        ("symbols", PROSE + "# " * 20),
        ("symbols", PROSE + "wait... " * 15),
        ("bullets", "\n".join(f"- the lift and the {word}" for word in WORDS[:30])),
        (
            "ellipses",
            "\n".join(f"the lift and the pump of the {word} in one or two or more houses here today…" for word in WORDS[:20]),
        ),
        ("letters", "the and " + " ".join(f"{number:05}" for number in range(100))),
        ("stop_words", " ".join(WORDS[:100])),
        ("lorem_ipsum", PROSE + "Lorem ipsum dolor sit amet."),
        ("repeated_lines", "\n".join([PROSE, *["the desk is closed today"] * 20])),
        ("repeated_paragraphs", "\n".join(SENTENCES) + "\n\nclosed" * 3),
        ("top_2_gram", "the and " + " ".join(f"pump room {word}" for word in WORDS[:100])),
        (
            "top_3_gram",
            "the and " + " ".join(" ".join(["big pump room", *WORDS[start : start + 9]]) for start in range(0, 396, 9)),
        ),
        (
            "repeated_5_grams",
            "the and of " + " ".join(" ".join(WORDS[start : start + 5]) for start in [*range(0, 200, 5), *range(0, 200, 5)]),
        ),
    ],
)
def test_each_rule_refuses_what_breaks_it(reason: str, text: str) -> None:
    assert poor(text) == f"quality_{reason}"
