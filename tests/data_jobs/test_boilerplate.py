"""Running heads and feet go from all pages but one, notices from web pages; the text stays."""

import pytest

from data_jobs.boilerplate import without_boilerplate

BODIES = ["The lift stands still.", "The pump has no water.\nIt had some.", "The door is shut.", "The roof leaks."]


def book(head: str, foot: str, bodies: list[str] = BODIES) -> str:
    return "\n\f\n".join(f"{head.format(number)}\n{body}\n{foot.format(number)}" for number, body in enumerate(bodies, 1))


def test_running_heads_and_page_numbers_go() -> None:
    text, gone = without_boilerplate(book("House book, part {}", "{}"), "application/pdf")
    assert text.split("\n\f\n") == ["House book, part 1\n" + BODIES[0], *BODIES[1:]]
    assert gone == 7
    assert without_boilerplate(text, "application/pdf") == (text, 0)


def test_lines_that_few_pages_share_stay() -> None:
    for text in (book("House book {}", "page {}", BODIES[:2]), "\n\f\n".join(BODIES), "Head\n" * 10, book("x" * 120, "y" * 120)):
        assert without_boilerplate(text, "application/pdf") == (text, 0)


def test_a_page_of_one_line_keeps_it() -> None:
    text = "\n\f\n".join(["closed"] * 5)
    assert without_boilerplate(text, "application/pdf") == (text, 0)


@pytest.mark.parametrize(
    "notice",
    [
        "We use cookies to improve this site.",
        "Accept all cookies",
        "© 2024 Oak House. All rights reserved.",
        "Skip to main content",
        "Alle Rechte vorbehalten.",
    ],
)
def test_notices_go_from_web_pages_only(notice: str) -> None:
    text = f"Before\n{notice}\nThe law says: all rights reserved to tenants stay."
    assert without_boilerplate(text, "text/html") == ("Before\nThe law says: all rights reserved to tenants stay.", 1)
    assert without_boilerplate(text, "text/markdown") == (text, 0)
