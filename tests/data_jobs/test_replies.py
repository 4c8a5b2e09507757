"""Of a mail its own words stay; of a mail that has none, everything."""

import pytest

from data_jobs.replies import own_words

OWN = "The lift stands still again.\n\nPlease send somebody."


@pytest.mark.parametrize(
    "quoted",
    [
        "On Mon, 4 Mar 2024 at 09:12, The Desk <desk@example.com> wrote:\n\n> Is it running?\n> Tell us.",
        "On Mon, 4 Mar 2024 at 09:12,\nThe Desk <desk@example.com>\nwrote:\n> Is it running?",
        "Am 04.03.2024 um 09:12 schrieb Die Zentrale:\n> Läuft er?\n>\n> > Seit wann?",
        "Le lun. 4 mars 2024 à 09:12, L'accueil <a@example.com> a écrit :\n> Alors ?",
        "El lun, 4 mar 2024 a las 9:12, Recepción escribió:\n> ¿Y?",
        "Op ma 4 mrt. 2024 om 09:12 schreef De Balie:\n> En?",
        "-----Original Message-----\nFrom: The Desk\nSent: Monday\n\nIs it running?",
        "______________\nFrom: The Desk <desk@example.com>\nSent: Monday, March 4, 2024\nTo: Caretaker\nSubject: Lift\n\nIs it?",
        "Von: Die Zentrale\nGesendet: Montag, 4. März 2024\nAn: Hausmeister\nBetreff: Aufzug\n\nLäuft er?",
        "*De :* L'accueil\n*Envoyé :* lundi\n*À :* Gardien\n*Objet :* Ascenseur\n\nAlors ?",
        "> Is it running?",
    ],
)
def test_quoted_replies_go(quoted: str) -> None:
    text, counts = own_words(f"{OWN}\n\n{quoted}")
    assert text == OWN
    assert counts["quoted_lines"] >= 1
    assert own_words(text) == (text, {})


@pytest.mark.parametrize(
    "signature",
    [
        "-- \nThe Desk\nSecond floor",
        "Best regards,\nThe Desk",
        "Thanks!\n\nThe Desk\nHead of lifts\nRoom 12",
        "Mit freundlichen Grüßen\nDie Zentrale",
        "Cordialement,\nL'accueil",
        "Un saludo\nRecepción",
        "Met vriendelijke groet,\nDe Balie",
        "Sent from my iPhone",
        "Von meinem Telefon gesendet",
        "Thanks,\nThe Desk\n\nSent from my phone\n\n-- \nOak House",
        "Get Outlook for Android",
    ],
)
def test_signatures_go(signature: str) -> None:
    text, counts = own_words(f"{OWN}\n\n{signature}")
    assert text == OWN
    assert counts["signature_lines"] >= 1


def test_answers_between_quotes_stay() -> None:
    text, counts = own_words("On Monday, the desk wrote:\n> Is it running?\nNo.\n> Since when?\nSince noon.")
    assert text == "No.\nSince noon."
    assert counts == {"quoted_lines": 3}


def test_a_forwarded_message_stays() -> None:
    text = (
        "Please read.\n\n---------- Forwarded message ---------\nFrom: The Desk\nDate: Monday\nSubject: Lift\n\nIt stands still."
    )
    assert own_words(text) == (text, {})


def test_a_message_of_quotes_alone_stays() -> None:
    for text in ("> Is it running?\n> Tell us.", "On Monday, the desk wrote:\n> all", "-- \nThe Desk", ""):
        assert own_words(text) == (text, {})


@pytest.mark.parametrize(
    "text",
    [
        "Thanks for the report. We looked at it.\n\nBest of all was the plot.\nIt shows ten lifts.",
        "From: the north entrance\ngo left.",
        "He wrote:\nall is well.",
        "Thanks\n\nOne more thing: when does the lift run again, and who has the key to the shaft on the second floor today?",
        "a -- b\n---\nA table follows.",
        "Regards\nto everybody, will you come?",
    ],
)
def test_words_that_only_look_like_a_signature_or_a_head_stay(text: str) -> None:
    assert own_words(text) == (text, {})


def test_many_signatures_take_one_walk() -> None:
    text = OWN + "\n\nThanks" * 5000
    cut, counts = own_words(text)
    assert cut == OWN
    assert counts["signature_lines"] == 10_000
