"""Messages and mailboxes: headers, bodies, attachments, and mail that lies about itself."""

from email.message import EmailMessage
from typing import Any

import pytest

from data_jobs.extract import mail
from data_jobs.extract.mail_headers import in_charset, iso_of
from data_jobs.extract.part import Encrypted, Part, Unreadable


def message(body: str = "Hello.", **headers: str) -> EmailMessage:
    made = EmailMessage()
    made["From"] = "Sender <sender@mail.example>"
    for name, value in headers.items():
        made[name.replace("_", "-")] = value
    made.set_content(body)
    return made


def one(data: bytes) -> Part:
    (part,) = mail.extract(data)
    return part


def test_a_message_is_a_document_with_its_headers_in_meta() -> None:
    part = one(
        message(
            "The lift is broken.\n\n-- \nSender", Subject="Störung im Aufzug – Haus 3", To="desk@mail.example",
            Date="Thu, 29 Feb 2024 08:30:00 +0100", Message_ID="<1@mail.example>", In_Reply_To="<0@mail.example>",
        ).as_bytes()
    )  # fmt: skip
    assert (part.title, part.name, part.media_type) == ("Störung im Aufzug – Haus 3", "", "message/rfc822")
    assert part.text == "The lift is broken.\n\n-- \nSender\n".rstrip("\n")
    assert part.meta == {
        "from": "Sender <sender@mail.example>", "to": "desk@mail.example", "date": "2024-02-29T08:30:00+01:00",
        "message_id": "<1@mail.example>", "in_reply_to": "<0@mail.example>",
    }  # fmt: skip


def test_plain_text_is_preferred_to_html() -> None:
    made = message("Plain words.")
    made.add_alternative("<p>Rich words.</p>", subtype="html")
    assert one(made.as_bytes()).text == "Plain words."


@pytest.mark.parametrize("plain", [None, "  \n"])
def test_html_is_read_where_there_is_no_plain_text(plain: str | None) -> None:
    made = message(plain or "")
    if plain is None:
        made.set_content("<p>Rich <b>wörds</b>.</p><script>no()</script>", subtype="html")
    else:
        made.add_alternative("<p>Rich <b>wörds</b>.</p>", subtype="html")
    text = one(made.as_bytes()).text
    assert "Rich" in text
    assert "wörds" in text
    assert "no()" not in text


def test_attachments_are_listed_and_the_readable_ones_are_documents(files: Any) -> None:
    made = message("See attached.")
    made.add_attachment("Town,Rent\nKöln,900\n", subtype="csv", filename="rents.csv")
    made.add_attachment("# Bins\n", subtype="markdown", filename="../../bins.md")
    made.add_attachment(
        files.pdf("a.pdf", [["Page of text."]]).read_bytes(), maintype="application", subtype="pdf", filename="Plan ä.PDF"
    )
    made.add_attachment(b"\x89PNG", maintype="image", subtype="png", filename="photo.png")
    made.add_attachment(b"%PDF-1.4 broken", maintype="application", subtype="pdf", filename="bad.pdf")
    first, *rest = mail.extract(made.as_bytes())
    assert first.meta["attachments"] == ["rents.csv", "bins.md", "Plan ä.PDF", "photo.png", "bad.pdf"]
    assert [(part.name, part.media_type, part.text) for part in rest[:3]] == [
        ("attachment rents.csv row 2", "text/csv", "Town: Köln\nRent: 900"),
        ("attachment bins.md", "text/markdown", "# Bins\n"),
        ("attachment Plan ä.PDF", "application/pdf", "Page of text."),
    ]
    assert (rest[3].name, rest[3].reason) == ("attachment bad.pdf", "corrupt")
    assert "cannot be opened" in rest[3].problem


def test_a_parser_that_gives_up_on_an_attachment_costs_only_that(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(data: bytes) -> list[Part]:
        raise AttributeError("deep inside")

    monkeypatch.setitem(mail._ATTACHED, ".docx", ("x", fail))
    made = message("See attached.")
    made.add_attachment(b"PK", maintype="application", subtype="octet-stream", filename="a.docx")
    first, second = mail.extract(made.as_bytes())
    assert first.text == "See attached."
    assert "gave up (AttributeError)" in second.problem


def test_two_attachments_of_one_name_are_told_apart() -> None:
    made = message()
    for text in ("one", "two"):
        made.add_attachment(text, filename="a.txt")
    assert [part.name for part in mail.extract(made.as_bytes())] == ["", "attachment a.txt", "attachment a.txt (2)"]


def test_forwarded_messages_are_documents_down_to_a_bound() -> None:
    made = message("core", Subject="core")
    for depth in range(8):
        outer = message(f"level {depth}", Subject=f"level {depth}")
        outer.add_attachment(made)
        made = outer
    parts = mail.extract(made.as_bytes())
    assert [part.text for part in parts if not part.problem] == [f"level {depth}" for depth in range(7, 1, -1)]
    assert parts[1].name == "attachment level 6"
    assert parts[1].media_type == "message/rfc822"
    assert parts[-1].reason == "too_deep"


def test_a_bomb_of_nested_parts_is_refused() -> None:
    data = b"Subject: bomb\n" + b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(2_000))
    with pytest.raises(Unreadable):
        mail.extract(data + b"\ntext")


@pytest.mark.parametrize(
    ("head", "body", "text"),
    [
        (b"Content-Type: text/plain; charset=us-ascii", "Grüße – 5 €".encode(), "Grüße – 5 €"),
        (b"Content-Type: text/plain; charset=iso-8859-1", "Grüße – 5 €".encode(), "Grüße – 5 €"),
        (b"Content-Type: text/plain; charset=iso-8859-1", "Grüße – 5 €".encode("cp1252"), "Grüße – 5 €"),
        (b"Content-Type: text/plain; charset=utf-8", "Grüße – 5 €".encode("cp1252"), "Grüße – 5 €"),
        (b"Content-Type: text/plain; charset=x-unknown", "Grüße".encode(), "Grüße"),
        (b"Content-Type: text/plain; charset=gb2312", "联通".encode("gb2312"), "联通"),
        (b"Content-Type: text/plain; charset=iso-2022-jp", "日本".encode("iso-2022-jp"), "日本"),
        (b"Content-Type: text/plain; charset=zip", b"plain", "plain"),
        (b"Content-Transfer-Encoding: base64", b"!!not base64!!", "!!not base64!!"),
        (b"Content-Type: multipart/mixed", b"no boundary\nat all", "no boundary\nat all"),
        (b"Content-Type: multipart/mixed; boundary=x", b"never used", "never used"),
        (b"Content-Type: multipart/mixed; boundary=x", b"--x\n\nnever closed", "never closed"),
    ],
)
def test_mail_that_lies_about_itself_is_read(head: bytes, body: bytes, text: str) -> None:
    assert one(b"Subject: x\n" + head + b"\n\n" + body).text == text


@pytest.mark.parametrize(
    ("raw", "title"),
    [
        (b"=?utf-8?q?Gr=C3=BC=C3=9Fe?= =?utf-8?b?IGFsbGU=?=", "Grüße alle"),
        (b"=?iso-8859-1?q?Gr=FC=DFe?= again", "Grüße again"),
        ("Grüße".encode(), "Grüße"),
        ("Grüße".encode("cp1252"), "Grüße"),
        (b"=?utf-8?b?%%%?=", "=?utf-8?b?%%%?="),
        (b"=?nonsense?q?a=FC?=", "aü"),
        (b"folded\n  here", "folded here"),
    ],
)
def test_subjects_are_decoded_however_they_are_written(raw: bytes, title: str) -> None:
    assert one(b"Subject: " + raw + b"\n\nbody").title == title


def test_file_names_are_decoded_and_lose_their_directories() -> None:
    head = b"Content-Disposition: attachment; filename*=utf-8''..%2Fsecret%2Fgr%C3%BC%C3%9Fe.txt\n\nhi"
    data = b"From: a\nContent-Type: multipart/mixed; boundary=x\n\n--x\n" + head + b"\n--x--\n"
    assert [(part.name, part.text) for part in mail.extract(data)][1:] == [("attachment grüße.txt", "hi")]


@pytest.mark.parametrize("raw", ["yesterday", "99 Foo 2024", "", "Mon, 01 Jan 99999 00:00:00 +0000"])
def test_a_date_that_is_none_is_left_out(raw: str) -> None:
    assert "date" not in one(f"Subject: x\nDate: {raw}\n\nbody".encode()).meta
    assert iso_of(raw) == raw


def test_encrypted_mail_says_so() -> None:
    for kind in (
        b'multipart/encrypted; boundary=x; protocol="application/pgp-encrypted"',
        b"application/pkcs7-mime; smime-type=enveloped-data",
    ):
        with pytest.raises(Encrypted):
            mail.extract(b"Subject: x\nContent-Type: " + kind + b"\n\n--x\n\nQUJD\n--x--\n")
    mailbox = b"From a Mon Jan  1 10:00:00 2024\nContent-Type: multipart/encrypted; boundary=x\n\n--x--\n"
    assert [part.reason for part in mail.extract_mbox(mailbox)] == ["encrypted"]


@pytest.mark.parametrize("data", [b"no mail at all\nreally", b"\x00\x01\x02", b"PK\x03\x04"])
def test_what_is_no_mail_is_refused(data: bytes) -> None:
    with pytest.raises(Unreadable, match="no header lines"):
        mail.extract(data)
    with pytest.raises(Unreadable, match='"From "'):
        mail.extract_mbox(data)


def test_a_mailbox_is_its_messages_one_by_one() -> None:
    letters = [message("From here on it is quoted.", Subject="first"), message("second", Subject="second")]
    letters[1].add_attachment("more", filename="b.txt")
    raw = b"".join(b"From a@b.example Mon Jan  1 10:00:00 2024\n" + one.as_bytes(unixfrom=False) + b"\n" for one in letters)
    raw = raw.replace(b"\nFrom here", b"\n>From here")
    parts = mail.extract_mbox(raw)
    assert [(part.name, part.title, part.text) for part in parts] == [
        ("message 1", "first", "From here on it is quoted."),
        ("message 2", "second", "second"),
        ("message 2 attachment b.txt", "", "more\n"),
    ]
    assert [part.media_type for part in parts] == ["message/rfc822", "message/rfc822", "text/plain"]
    crlf = mail.extract_mbox(raw.replace(b"\n", b"\r\n"))
    assert [part.text.strip() for part in crlf] == [part.text.strip() for part in parts]


def test_a_bad_message_in_a_mailbox_is_set_aside_alone() -> None:
    deep = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(2_000))
    line = b"From a@b.example Mon Jan  1 10:00:00 2024\n"
    parts = mail.extract_mbox(
        b"stray bytes\n\n" + line + b"Subject: 1\n\none\n\n" + line + deep + b"\n\n" + line + b"Subject: 3\n\nthree\n"
    )
    assert [(part.name, bool(part.problem), part.title) for part in parts] == [
        ("before message 1", True, ""), ("message 1", False, "1"), ("message 2", True, ""), ("message 3", False, "3"),
    ]  # fmt: skip


def test_a_line_of_text_that_begins_with_from_parts_no_message() -> None:
    raw = b"From a@b.example Mon Jan  1 10:00:00 2024\nSubject: 1\n\nHello.\n\nFrom Monday on the lift rests.\nFrom me: thanks\n"
    assert [part.name for part in mail.extract_mbox(raw)] == ["message 1"]
    assert mail.extract_mbox(b" \n") == []


def test_encodings_that_are_no_character_sets_are_not_used() -> None:
    assert in_charset(b"\\u0041", "unicode_escape") == "\\u0041"
    assert in_charset(b"xn--" + b"a" * 100_000, "idna").startswith("xn--")
    assert in_charset(b"caf\xe9", "punycode") == "café"
