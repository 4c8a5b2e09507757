"""Phone numbers, international and as people of a country write them.

A cheap pattern proposes, ``phonenumbers`` (libphonenumber's numbering plans) decides. A number without a country code and without a
word such as "phone" before it is taken only in a form that nothing else has: dates, versions, prices, orders and identifiers stay.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

import phonenumbers
import re2

from data_jobs.pii import LATIN1, Found

_SEP = rb"[ ./()-]"
_MORE = rb"(?: ?(?:x|ext\.?|extension|#|Durchwahl|poste) ?[0-9]{1,6}\b)?"
_CANDIDATE = re2.compile(
    # +49 (0)30 …, 0049 …, 011 …   |   030/…, (030) …, 020 …   |   (212) 555-0123, 1-212-555-0123
    rb"(?:\(?\+ ?|\b00 ?|\b011[ -])[(]?[1-9](?:"
    + _SEP
    + rb"{0,3}[0-9]){6,15}"
    + _MORE
    + rb"|\(?\b0[1-9](?:"
    + _SEP
    + rb"{0,3}[0-9])"
    rb"{6,12}"
    + _MORE
    + rb"|(?:\b1[ .-]{0,2})?(?:\([2-9][0-9]{2}\) ?[-.]? ?|\b[2-9][0-9]{2}[ ./-]{1,3})[1-9][0-9]{2}[ .-][0-9]{4}\b"
    + _MORE,
    LATIN1,
)
GATE = rb"[0-9](?:[ ./()-]{0,3}[0-9]){5}"
"""What has to be in a text (for RE2) before a number can be found."""
_WORD = (
    rb"(?:phone|telefo|t\xe9l\xe9|\bt[e\xe9]l\b|\bfon\b|mobil|m\xf3vil|handy|\bcell\b|\bcell ?phone|\bcall(?:s|ed|ing)?\b|"
    rb"\bfax|whatsapp|\bsms\b|hotline|"
    rb"rufnummer|anruf|appele|\bring\b|\bdial|\breach|kontakt|contact)"
)
_AFTER_A_WORD = re2.compile(
    rb"(?i)" + _WORD + rb"[a-z_ .]{0,16}[^a-z0-9+\n]{0,6}((?:\+ ?)?[(]?[0-9](?:" + _SEP + rb"{0,3}[0-9]){5,15}" + _MORE + rb")",
    LATIN1,
)
_WORD_BEFORE = re.compile(_WORD + rb"[^\n]{0,24}\Z", re.IGNORECASE)
_OTHER_BEFORE = re.compile(
    rb"(?:order|invoice|rechnung|bestell|commande|facture|isbn|issn|\bean\b|\bsku\b|serial|serien|\bref|ticket|\bcase\b|\bid\b|artic|artik"
    rb"|\bpart\b|version|build|commit|track|account|konto|kunden|customer n|\bvat\b|\btax\b|ssn|imei|batch|\blot\b|\bpid\b|\bport\b|bytes"
    rb"|offset|doi|time|epoch|\bdate|serie|model|asset|number of|total|amount|price|\$|\xa3|seed|hash|lat\b|lon\b|\bpo\b|policy|member)"
    rb"[^\n]{0,14}\Z",
    re.IGNORECASE,
)
_DATE = re.compile(r"\(?(?:\d{1,2}[./-]\d{1,2}[./-]\d{2,4}|\d{4}[./-]\d{1,2}[./-]\d{1,2})(?![./-]?\d)")
_TAIL = re.compile(r"[ ./()-]+\d+\s*\Z")


def find_phones(text: str, view: bytes, regions: Sequence[str]) -> Iterator[Found]:
    """Phone numbers, each with its extension when it has one; ``value`` is E.164 where the country is known."""
    for match in _CANDIDATE.finditer(view):
        one = _judged(view, match.start(), match.end(), tuple(regions), False)
        if one:
            yield one
    for match in _AFTER_A_WORD.finditer(view):
        one = _judged(view, match.start(1), match.end(1), tuple(regions), True)
        if one:
            yield one


def _judged(view: bytes, start: int, end: int, regions: tuple[str, ...], told: bool) -> Found | None:
    written = view[start:end].decode("latin-1")
    if view[end : end + 1].isdigit():  # the pattern ended inside a number
        written = _TAIL.sub("", written).rstrip(" ./(-")
    before = view[max(0, start - 40) : start].rpartition(b"\n")[2] if not told else b""
    told = told or bool(_WORD_BEFORE.search(before))
    other = bool(_OTHER_BEFORE.search(before))
    for _ in range(4):  # what follows the number on its line may have been taken for a part of it
        if not _joined_to_more(view, start, start + len(written)):
            value = _value(written, regions, told, other)
            if value:
                return Found(start, start + len(written), "phone", value)
        shorter = _TAIL.sub("", written)
        if shorter == written:
            return None
        written = shorter.rstrip(" ./(-")
    return None


def _joined_to_more(view: bytes, start: int, end: int) -> bool:
    before, after = view[max(0, start - 2) : start], view[end : end + 2]
    last = before[-1:]
    if (
        last.isalnum()
        or last in (b"_", b".", b"#", b"/", b"+", b"&", b"%", b"$", b"@")
        or re.search(rb"\d[.,:-]\Z|\w-\Z", before)
    ):
        return not before.endswith((b"\\n", b"\\t")) and not re.search(rb"[^\d/]/\Z", before)
    return bool(re.match(rb"[\w%@]|[.,:/-]\d", after))


@lru_cache(maxsize=1 << 14)
def _value(written: str, regions: tuple[str, ...], told: bool, other: bool) -> str:
    """E.164, or "" when this is no phone number."""
    digits = re.sub(r"\D", "", re.split(r"[xe#DP]", written)[0])
    groups = re.findall(r"\d+", written)
    if (
        not 7 <= len(digits) <= 17
        or len(set(digits)) < 3
        or _DATE.match(written)
        or re.fullmatch(r"\+?\d+\.\d+|[1-9]\d+/\d+", written)
    ):
        return ""
    if written.lstrip("( ").startswith(("+", "00", "011 ", "011-")):
        if other and not told and "+" not in written:
            return ""
        return _international(re.sub(r"\A\D*(?:00|011)(?=[ -]?\(?[1-9])", "+", written), groups)
    if (other and not told) or (len(groups) > 3 and sum(len(group) == 1 for group in groups) > 1):
        return ""
    if told and re.fullmatch(r"\d{3}[ .-]\d{4}", written):
        return f"local {digits}"
    return _national(written, digits, groups, regions, told)


def _national(written: str, digits: str, groups: list[str], regions: tuple[str, ...], told: bool) -> str:
    """The number in the country whose own way of writing it is closest to this one; "" when it is none in any."""
    best, value = 0, ""
    for region in regions:
        number = _parsed(written, region)
        if number is None or not _possible(number):
            continue
        valid, own = phonenumbers.is_valid_number(number), _own_form(written, digits, groups, region)
        if not (told or own) or not (valid or told or _reserved(digits, region)):
            continue
        usual = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.NATIONAL)
        likeness = 1 + 2 * valid + 3 * own + 4 * (len(groups) > 1 and re.findall(r"\d+", usual) == groups)
        if likeness > best:
            best, value = likeness, phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return value


def _international(written: str, groups: list[str]) -> str:
    number = _parsed(written, None)
    if number is None or not _possible(number):
        return ""
    if not phonenumbers.is_valid_number(number) and len("".join(groups)) < 10:
        return ""
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _own_form(written: str, digits: str, groups: list[str], region: str) -> bool:
    """Whether the number is written as only phone numbers of this country are."""
    if region in ("US", "CA"):
        return len(groups) >= 3 and bool(
            re.match(r"(?:1\D{1,2})?\(?[2-9]\d\d\)?[ ./-]{1,3}[1-9]\d\d[ .-]\d{4}", written) or "(" in written
        )
    if not digits.startswith("0"):
        return False
    if len(groups) == 1:
        return 10 <= len(digits) <= 12 and digits not in ("0123456789", "01234567890")
    return len(digits) >= 8 and max(map(len, groups)) < len(digits) and all(len(group) > 1 for group in groups)


def _reserved(digits: str, region: str) -> bool:
    """Ranges kept for films and examples (07700 900…, 06 39 98…), which no numbering plan calls valid; and every NANP number in form."""
    return region in ("US", "CA") or (region == "GB" and len(digits) == 11) or (region == "FR" and len(digits) == 10)


def _possible(number: phonenumbers.PhoneNumber) -> bool:
    return phonenumbers.is_possible_number_with_reason(number) == phonenumbers.ValidationResult.IS_POSSIBLE


def _parsed(written: str, region: str | None) -> phonenumbers.PhoneNumber | None:
    try:
        return phonenumbers.parse(written, region)
    except phonenumbers.NumberParseException:
        return None
