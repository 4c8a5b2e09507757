"""What a score sees, one thing at a time."""

import pytest

from data_jobs.chat_formats import Said
from data_jobs.conversation_quality import quality

LONG = "The caretaker of the house on the square lives on the ground floor and answers the bell from eight to six on weekdays. "
GERMAN = (
    "Der Hausmeister wohnt im Erdgeschoss und ist werktags von acht bis achtzehn Uhr zu sprechen, samstags nur bis zum Mittag. "
)


def score(*texts: str) -> tuple[float, tuple[str, ...]]:
    """Of user and assistant in turn; "" leaves one out."""
    roles = ("user", "assistant")
    found = quality([Said(role=roles[place % 2], content=text) for place, text in enumerate(texts) if text])
    return found.value, found.reasons


@pytest.mark.parametrize(
    ("texts", "value", "reasons"),
    [
        (("When?", "At nine."), 0.9, ()),
        (("Which command?", "ls -l"), 0.9, ()),
        (("When?", "At nine.", "Thank you so much!"), 1.0, ("thanked",)),
        (("Wann?", "Um neun.", "Vielen Dank"), 1.0, ("thanked",)),
        (("When?", "I'm sorry, I cannot help with that."), 0.4, ("refused",)),
        (("Wann?", "Das kann ich leider nicht sagen."), 0.9, ()),
        (("Wann?", "Leider weiß ich es nicht."), 0.4, ("refused",)),
        (("A mocha?", "Sorry, there is none today. Would a latte do?"), 0.9, ()),
        (("When?", f"I'm sorry to hear that. {LONG}"), 0.9, ()),
        (("When?", "I am sorry.", "And where?", "At the gate."), 0.65, ("refused",)),
        (("When?", "At nine.", "That's wrong.", "At ten."), 0.5, ("user_says_wrong",)),
        (("When?", "At nine.", "It still does not work.", "Oh."), 0.5, ("user_says_wrong",)),
        (("Why is that wrong?", "It is not."), 0.9, ()),
        (("When?", "—"), 0.5, ("degenerate",)),
        (("When?", "yes it is " * 20), 0.5, ("degenerate",)),
        (("When?", "Ask at the desk, please.", "And where?", "Ask at the desk, please."), 0.6, ("repeated_answer",)),
        (("A?", "Yes.", "B?", "Yes."), 0.9, ()),
        (("When does it open?", "At nine.", "When does it open??", "At nine."), 0.7, ("asked_again",)),
        (("When?", "At nine.", "And where?"), 0.65, ("unanswered", "unfinished")),
        ((LONG * 2, GERMAN * 2), 0.7, ("other_language",)),
        ((LONG * 2, LONG * 2), 0.9, ()),
        (("When?", f"{LONG} It is open on all days of the week but not on the"), 0.8, ("unfinished",)),
        (("When?",), 0.5, ("unanswered", "unfinished")),
        (("", "Hello."), 0.9, ()),
        ((), 0.9, ()),
    ],
)
def test_every_deduction_has_its_name(texts: tuple[str, ...], value: float, reasons: tuple[str, ...]) -> None:
    assert score(*texts) == (value, reasons)


def test_a_score_stays_in_its_bounds() -> None:
    said = ("When does it open?", "Sorry.", "That is wrong. When does it open?", "Sorry.", "When does it open now?")
    value, reasons = score(*said)
    assert value == 0.0
    assert {"refused", "user_says_wrong", "asked_again", "unfinished"} <= set(reasons)
