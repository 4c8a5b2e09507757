"""E-mail: a message (.eml) or a mailbox of them (.mbox). Each message is a document, and so is each attachment in a known format.

The text is the plain one where there is one, else the HTML's; quoted replies and signatures stay (washing takes them out, which is
why a message has the media type message/rfc822). Signatures are not checked; encrypted messages are set aside.
"""

import re
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.message import Message
from typing import Any

from data_jobs.extract import csv, docx, html, md, pdf, txt
from data_jobs.extract.mail_headers import charset_text, date_of, header
from data_jobs.extract.part import Encrypted, Options, Part, Unreadable
from data_jobs.extract.record import finished

MEDIA_TYPE = "message/rfc822"
_DEEPEST = 5
_MOST_LEAVES = 1_000
# mboxrd and mboxo: a line "From … 10:00:00 …" after an empty one (or with the day's name, for writers that forget it), then a header.
_FROM_LINE = re.compile(
    rb"^(?:(?<=\n\n)|(?<=\n\r\n)|(?<![\s\S])|(?=From [^\n]{0,300} (?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) ))"
    rb"From [^\n]*\d\d:\d\d[^\n]*\n(?=[!-9;-~]+:|>From )",
    re.MULTILINE,
)
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)
_DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_ATTACHED: dict[str, tuple[str, Callable[[bytes], list[Part]]]] = {
    ".txt": ("text/plain", txt.extract),
    ".md": ("text/markdown", md.extract),
    ".html": ("text/html", html.extract),
    ".htm": ("text/html", html.extract),
    ".csv": ("text/csv", csv.extract),
    ".pdf": ("application/pdf", pdf.extract),
    ".docx": (_DOCX, docx.extract),
}


def extract(data: bytes, options: Options = Options()) -> list[Part]:
    """The message of an .eml file (a document without a name) and its attachments ("attachment NAME")."""
    message = _parsed(data)
    if message is None:
        raise Unreadable("the file has no header lines, so it is no e-mail message; give it the ending that fits")
    parts = list(_parts(message, "", 0))
    if parts and parts[0].problem:
        raise (Encrypted if parts[0].reason == "encrypted" else Unreadable)(parts[0].problem)
    return finished(parts)


def extract_mbox(data: bytes, options: Options = Options()) -> list[Part]:
    """The messages of a mailbox ("message 1" and so on) and their attachments ("message 1 attachment NAME")."""
    starts = [(found.start(), found.end()) for found in _FROM_LINE.finditer(data)]
    if not starts:
        if not data.strip():
            return []
        raise Unreadable('the mailbox has no line that begins with "From " before a message; export it again as mbox')
    parts: list[Part] = []
    if data[: starts[0][0]].strip():
        problem = f"there are {starts[0][0]} bytes before the first message; export the mailbox again"
        parts.append(Part(text="", name="before message 1", problem=problem))
    ends = [start for start, _ in starts[1:]] + [len(data)]
    for number, ((_, begin), end) in enumerate(zip(starts, ends, strict=True), 1):
        name = f"message {number}"
        message = _parsed(_QUOTED_FROM.sub(rb"\1", data[begin:end]))
        if message is None:
            parts.append(Part(text="", name=name, problem="the message cannot be parsed; remove it or export it again"))
        else:
            parts += _parts(message, name, 0)
    return finished(parts)


def _parsed(data: bytes) -> Message | None:
    """The message; None when nothing in it is a header, or when it is nested beyond what the parser can follow."""
    try:
        message = message_from_bytes(data)
    except (RecursionError, ValueError, LookupError, TypeError, AttributeError, IndexError):
        return None
    return message if message.keys() else None


def _parts(message: Message, name: str, depth: int) -> Iterator[Part]:
    """The message, then what is attached to it."""
    kind = message.get_content_type()
    if kind == "multipart/encrypted" or (kind.endswith("pkcs7-mime") and "signed" not in header(message, "Content-Type")):
        yield Part(text="", name=name, problem="the message is encrypted; export it decrypted", reason="encrypted")
        return
    if depth > _DEEPEST:
        problem = f"messages are attached to one another more than {_DEEPEST} deep; take the inner ones out"
        yield Part(text="", name=name, problem=problem, reason="too_deep")
        return
    texts: list[str] = []
    attached: list[tuple[str, Message]] = []
    try:
        _collect(message, texts, attached, 0)
    except RecursionError:
        yield Part(text="", name=name, problem="the message is nested too deep; take its parts out", reason="too_deep")
        return
    meta = _meta(message)
    if attached:
        meta["attachments"] = [file for file, _ in attached]
    text = "\n\n".join(text.strip("\r\n") for text in texts if text.strip())
    yield Part(text=text, title=header(message, "Subject"), name=name, media_type=MEDIA_TYPE, meta=meta)
    for file, leaf in attached:
        inner = f"{name} attachment {file}".strip()
        if leaf.get_content_type() == MEDIA_TYPE:
            yield from _parts(_inside(leaf), inner, depth + 1)
        else:
            yield from _of_attachment(file, leaf, inner)


def _collect(part: Message, texts: list[str], attached: list[tuple[str, Message]], at_most: int) -> None:
    """Puts the readable texts and the attachments of a message into the two lists."""
    kind = part.get_content_type()
    children = part.get_payload() if part.is_multipart() else []
    file = _file_name(part)
    if kind == MEDIA_TYPE and children:
        attached.append((file or header(_inside(part), "Subject") or "message", part))
    elif kind == "multipart/alternative" and children:
        _collect(_best(children), texts, attached, at_most)
    elif children:
        for child in children[:_MOST_LEAVES]:
            _collect(child, texts, attached, at_most)
    elif file or part.get_content_disposition() == "attachment" or not kind.startswith("text/"):
        if not kind.startswith("multipart/"):
            attached.append((file or kind.replace("/", "."), part))
        elif isinstance(part.get_payload(), str):
            texts.append(charset_text(part))  # its boundary is missing: what there is, is read as text
    elif kind == "text/html":
        texts.append(_html_text(part))
    else:
        texts.append(charset_text(part))


def _best(alternatives: list[Message]) -> Message:
    """Plain text with something in it, else HTML or what contains it, else the first."""
    plain = (one for one in alternatives if one.get_content_type() == "text/plain" and charset_text(one).strip())
    rich = (one for one in alternatives if one.get_content_type() == "text/html" or one.is_multipart())
    return next(plain, None) or next(rich, None) or alternatives[0]


def _html_text(part: Message) -> str:
    page = charset_text(part).replace("\x00", "").strip()
    if not page:
        return ""
    try:
        return "\n\n".join(one.text for one in html.extract(page.encode("utf-8", "replace")))
    except Unreadable:
        return ""


def _of_attachment(file: str, leaf: Message, name: str) -> Iterator[Part]:
    dot = file.rfind(".")
    media_type, read = _ATTACHED.get(file[dot:].lower() if dot >= 0 else "", ("", None))
    if read is None:
        return
    data = leaf.get_payload(decode=True)
    try:
        parts = read(data) if isinstance(data, bytes) and data.strip() else []
    except Unreadable as error:
        yield Part(text="", name=name, problem=error.message, reason=error.reason)
        return
    except Exception as error:  # its parser may raise anything at it, and the message is good all the same
        problem = f"the attachment's parser gave up ({type(error).__name__}); take it out and ingest it on its own"
        yield Part(text="", name=name, problem=problem)
        return
    for part in parts:
        inner = f"{name} {part.name}".strip()
        yield Part(part.text, part.title, inner, part.problem, part.reason, part.media_type or media_type, part.meta)


def _meta(message: Message) -> dict[str, Any]:
    names = {"from": "From", "to": "To", "cc": "Cc", "message_id": "Message-ID", "in_reply_to": "In-Reply-To", "list": "List-Id"}
    meta = {key: header(message, name) for key, name in names.items()} | {"date": date_of(message)}
    return {key: value for key, value in meta.items() if value}


def _inside(part: Message) -> Message:
    payload = part.get_payload()
    return payload[0] if isinstance(payload, list) else Message()


def _file_name(part: Message) -> str:
    """The name an attachment is given, without any directory."""
    return header(part, "Content-Disposition", "filename") or header(part, "Content-Type", "name")
