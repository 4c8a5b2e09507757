"""Mail and chats without what somebody else wrote before, and without signatures.

Heads of quotes are known in English, German, French, Spanish and Dutch. A forwarded message stays: it is what the sender wanted read.
When nothing of the message's own would be left, the message stays as it is.
"""

import re
from collections import Counter

REPLY_TYPES = frozenset({"message/rfc822", "application/mbox", "text/x-chat", "application/x-chat"})
"""Media types of documents that are messages."""

_QUOTED = re.compile(r"[ \t]*(?:>|\|[ \t]*>)")
_WROTE = re.compile(
    r"[ \t]*(?:On|Am|Le|El|Op|Den|Il|\d{4}-\d\d-\d\d)\b.{4,300}?(?:wrote|schrieb|a écrit|escribió|schreef)[^:\n]{0,80}[ \t]?:[ \t]*",
    re.DOTALL,
)
_ORIGINAL = re.compile(
    r"[ \t]*[-_*]{2,}[ \t]*(?:Original Message|Original Appointment|Ursprüngliche Nachricht|Originalnachricht|Message d['’]origine|"
    r"Mensaje original|Oorspronkelijk bericht)[ \t]*[-_*]{2,}[ \t]*",
    re.IGNORECASE,
)
_FORWARDED = re.compile(
    r"[ \t]*(?:[-_*]{2,}[ \t]*(?:Forwarded message|Weitergeleitete Nachricht|Message transféré|Mensaje reenviado|Doorgestuurd bericht).*"
    r"|Begin forwarded message:|Anfang der weitergeleiteten Nachricht:)[ \t]*",
    re.IGNORECASE,
)
_FROM = re.compile(r"[*_ \t]*(?:From|Von|De|Van)[*_ \t]*:[*_ \t]*\S.*")
_HEAD = re.compile(
    r"[*_ \t]*(?:Sent|Date|To|Cc|Subject|Gesendet|Datum|An|Betreff|Envoyé|À|A|Objet|Enviado|Fecha|Para|CC|Asunto|Verzonden|Aan|Onderwerp)"
    r"[*_ \t]*:[*_ \t]*.*"
)
_RULE = re.compile(r"[ \t]*_{8,}[ \t]*")
_DASHES = re.compile(r"[ \t]*--[ \t]?")
_MOBILE = re.compile(
    r"[ \t]*(?:Sent from (?:my |Mail for |Outlook for |Yahoo Mail|the all new|Proton).{0,60}|Get Outlook for .{0,40}|"
    r"Von meinem .{1,40} gesendet.{0,20}|Gesendet von (?:meinem|Mail für|Outlook für) .{1,40}|"
    r"Envoyé (?:de|depuis) mon .{1,40}|Enviado desde mi .{1,40}|Verzonden vanaf mijn .{1,40})",
    re.IGNORECASE,
)
_SIGN_OFF = re.compile(
    r"[ \t]*(?:(?:best|kind|kindest|warm|warmest|many)?[ \t]?(?:regards|wishes|thanks)|thanks|thank you|thx|cheers|sincerely|"
    r"yours(?: sincerely| truly| faithfully)?|best|all the best|thanks (?:in advance|again|so much|and regards)|"
    r"(?:mit )?(?:freundlichen|freundliche|besten|beste|viele|liebe|herzliche) grü(?:ß|ss)en?|mfg|vg|lg|"
    r"cordialement|bien cordialement|bien à vous|salutations|merci|un saludo|saludos(?: cordiales)?|atentamente|gracias|"
    r"met vriendelijke groet(?:en)?|groet(?:en|jes)?|mvg)[ \t]*[,.!]?[ \t]*",
    re.IGNORECASE,
)
_SIGNATURE_LINES = 8
_SIGNATURE_WIDTH = 80


def own_words(text: str) -> tuple[str, Counter[str]]:
    """The message's own words, and how many lines went as ``quoted_lines`` and ``signature_lines``."""
    lines = text.split("\n")
    counts: Counter[str] = Counter()
    kept = _without_quotes(lines)
    counts["quoted_lines"] = len(lines) - len(kept)
    signed = len(kept)
    _drop_signature(kept)
    counts["signature_lines"] = signed - len(kept)
    if not any(line.strip() for line in kept):
        return text, Counter()
    return ("\n".join(kept).strip("\n").rstrip(), +counts) if counts.total() else (text, Counter())


def _without_quotes(lines: list[str]) -> list[str]:
    kept: list[str] = []
    forwarded = False
    number = 0
    while number < len(lines):
        line = lines[number]
        forwarded = forwarded or bool(_FORWARDED.fullmatch(line))
        if not forwarded and kept and (_ORIGINAL.fullmatch(line) or _is_head(lines, number)):
            while kept and (not kept[-1].strip() or _RULE.fullmatch(kept[-1])):
                kept.pop()
            break
        if _QUOTED.match(line):
            _drop_attribution(kept)
            while number < len(lines) and _QUOTED.match(lines[number]):
                number += 1
            continue
        kept.append(line)
        number += 1
    return kept


def _is_head(lines: list[str], number: int) -> bool:
    """Outlook's head of a quoted message: From, and two more of Sent, To, Subject right below it."""
    if not _FROM.fullmatch(lines[number]):
        return False
    below = lines[number + 1 : number + 6]
    return sum(bool(_HEAD.fullmatch(line)) for line in below) >= 2


def _drop_attribution(kept: list[str]) -> None:
    """Takes "On …, … wrote:" (on up to three lines) off the end."""
    last = len(kept)
    while last and not kept[last - 1].strip():
        last -= 1
    for size in (1, 2, 3):
        if last >= size and _WROTE.fullmatch("\n".join(kept[last - size : last])):
            del kept[last - size :]
            return


def _drop_signature(lines: list[str]) -> None:
    """Takes signatures and the footers of mail programs off the end, as many as there are."""
    while True:
        while lines and not lines[-1].strip():
            lines.pop()
        if lines and _MOBILE.fullmatch(lines[-1]):
            lines.pop()
            continue
        start = _signature_start(lines)
        if start is None:
            return
        del lines[start:]


def _signature_start(lines: list[str]) -> int | None:
    for number in range(len(lines) - 1, max(-1, len(lines) - 2 - _SIGNATURE_LINES), -1):
        if len(lines[number]) > _SIGNATURE_WIDTH:
            return None
        if _DASHES.fullmatch(lines[number]) and number:
            return number
        if _SIGN_OFF.fullmatch(lines[number]) and number:
            below = [line for line in lines[number + 1 :] if line.strip()]
            return number if len(below) <= 6 and not any(line.rstrip().endswith(("?", ":")) for line in below) else None
    return None
