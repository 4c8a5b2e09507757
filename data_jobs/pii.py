"""Personal data with a form of its own: e-mail addresses, IBANs, payment cards, internet addresses. Phone numbers: ``data_jobs.phones``.

Each finder is told the text twice: as it is, and as bytes, one for each character (``bytes_view``), because RE2 is fastest on bytes and
places in them are places in the text. All take time linear in the text.
"""

import ipaddress
import re
from collections.abc import Iterator
from typing import NamedTuple

import re2


class Found(NamedTuple):
    """``text[start:end]`` is of this kind; ``value`` is the same for all ways to write the same thing."""

    start: int
    end: int
    kind: str
    value: str


LATIN1 = re2.Options()
"""For patterns on ``bytes_view``."""
LATIN1.encoding = re2.Options.Encoding.LATIN1
_HYPHENS = re.compile("[\u2010-\u2015\u2212\ufe58\ufe63\uff0d]")
_SPACES = re.compile("[\u00a0\u2000-\u200a\u202f\u205f\u3000]")


def bytes_view(text: str) -> bytes:
    """One byte per character: Latin-1, with every kind of hyphen and space as the plain one, and "?" for all else."""
    if text.isascii():
        return text.encode()
    return _SPACES.sub(" ", _HYPHENS.sub("-", text)).replace("\uff20", "@").encode("latin-1", "replace")


# What stands before the sign, read backwards from it. "_" inside a host is no domain, but people write it.
_LOCAL = re.compile(r"""[\w+\-'=~*][\w.+\-%'!#$&*=^{|}~/?`]{0,63}""")
_LOCAL_JUNK = re.compile(r"\A(?:[^@]*[?&/=|`{}*#$!^~]|[.'+-]+|%(?:20|22|26|27|3[CDcd]|2[Cc]))+")
_DOMAIN = re.compile(
    r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}(xn--[a-z0-9-]{2,59}|[^\W\d_]{2,24})(?![\w-]*[^\W_])", re.IGNORECASE
)
_DOMAIN_LITERAL = re.compile(r"\[(?:IPv6:)?[0-9a-f.:]{7,45}\]", re.IGNORECASE)
_SIGN = re2.compile(rb"@|%40| ?[\[({] ?(?:at|AT|@) ?[\])}] ?|( (?:at|AT) )[A-Za-z0-9-]{1,40} (?:dot|DOT) [A-Za-z]", LATIN1)
_DOTS_SPELT = re.compile(r" ?[\[({] ?(?:dot|DOT|punkt|\.) ?[\])}] ?| (?:dot|DOT) ")
_FILE_ENDINGS = frozenset(
    "png jpg jpeg gif svg webp ico css scss js mjs ts jsx tsx json html htm xml txt yaml yml toml lock conf cfg ini log patch diff "
    "class jar dll exe tgz gz bz2 xz rpm deb apk dmg iso service socket timer target mount automount slice scope path device swap "
    "frame data value length name size index type prototype bar".split()
)
_NO_PERSON = frozenset(["this", "super", "return", "break", "continue"])


def find_emails(text: str, view: bytes) -> Iterator[Found]:
    """Addresses as RFC 5321 has them, as people write them in Unicode, ``%40`` in URLs and ``name [at] host [dot] org``."""
    for sign in _SIGN.finditer(view):
        at, after = sign.span()
        spelt = after - at != 1 and view[at:after] != b"%40"
        end, host = _host(text, sign.end(1) if sign.group(1) else after, spelt)
        start = _local_start(text, at) if host else at
        name = text[start:at]
        if name and name.lower() not in _NO_PERSON and not _is_address_of_a_machine(text, start, end, name):
            yield Found(start, end, "email", f"{name}@{host}".lower())


def _local_start(text: str, end: int) -> int:
    """Where the name that ends here begins; ``end`` itself when there is none."""
    if text[end - 1 : end] == '"':
        start = text.rfind('"', max(0, end - 66), end - 1)
        return start if 0 <= start < end - 2 and "\n" not in text[start:end] else end
    found = _LOCAL.match(text[max(0, end - 64) : end][::-1])
    if found is None:
        return end
    start = end - found.end()
    junk = _LOCAL_JUNK.match(text[start:end])
    return start + junk.end() if junk else start


def _host(text: str, start: int, spelt: bool) -> tuple[int, str]:
    """Where the host that begins here ends, and the host; an empty one when it is none."""
    window = text[start : start + 255]
    if spelt:
        plain = _DOTS_SPELT.sub(".", window)
        found = _DOMAIN.match(plain)
        if found is None:
            return start, ""
        used = 0
        for used in range(found.end(), len(window) + 1):
            if _DOTS_SPELT.sub(".", window[:used]) == found.group():
                break
        return start + used, found.group()
    found = _DOMAIN.match(window)
    if found is None:
        literal = _DOMAIN_LITERAL.match(window)
        return (start + literal.end(), literal.group()) if literal else (start, "")
    ending = found.group(1)
    mixed = not (ending.islower() or ending.isupper() or ending.istitle())
    return (start, "") if mixed or ending.lower() in _FILE_ENDINGS else (start + found.end(), found.group())


def _is_address_of_a_machine(text: str, start: int, end: int, name: str) -> bool:
    """``ssh://git@host.org/…``, ``git@host.org:owner/name``: where a machine is, not where a person reads."""
    before = text[max(0, start - 12) : start]
    if re.search(r"[a-z0-9+]://\Z", before) and not before.endswith("mailto://"):
        return True
    return name.lower() in ("git", "hg", "svn") and text[end : end + 1] in (":", "/")


_IBAN = re2.compile(rb"(?:\b|IBAN:?)([A-Za-z]{2}[0-9]{2}(?:[ .-]{0,2}[A-Za-z0-9]){11})", LATIN1)
# Country and length, as the registry of SWIFT (ISO 13616) lists them.
_IBAN_LENGTHS = {
    entry[:2]: int(entry[2:])
    for entry in (
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18 "
        "FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 "
        "LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 "
        "SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
    ).split()
}


def find_ibans(text: str, view: bytes) -> Iterator[Found]:
    """Account numbers of the right length for their country whose check digits are right (ISO 7064, mod 97 = 1)."""
    place = 0
    while (match := _IBAN.search(view, place)) is not None:
        start = match.start(1)
        place = start + 4
        if view[max(0, start - 1) : start] == b"-":
            continue
        length = _IBAN_LENGTHS.get(view[start : start + 2].decode().upper())
        end = _end_of(view, start, length) if length else 0
        if not end or view[end : end + 1].isalnum():
            continue
        value = "".join(re.findall("[A-Z0-9]", view[start:end].decode().upper()))
        if int("".join(str(int(char, 36)) for char in value[4:] + value[:4])) % 97 == 1:
            yield Found(start, end, "iban", value)
            place = end


def _end_of(view: bytes, start: int, length: int) -> int:
    """Where the ``length``-th letter or digit from ``start`` ends when at most two spaces, dots or hyphens stand between; else 0."""
    seen, gap = 0, 0
    for place in range(start, min(len(view), start + 3 * length)):
        if view[place : place + 1].isalnum():
            seen, gap = seen + 1, 0
            if seen == length:
                return place + 1
        elif view[place] in b" .-" and gap < 2:
            gap += 1
        else:
            return 0
    return 0


_CARD = re2.compile(rb"[0-9](?:[ .-]{0,2}[0-9]){12,18}", LATIN1)
# Visa; Mastercard; American Express; Discover; Diners Club; JCB; UnionPay; Maestro; Mir. Lengths by ISO/IEC 7812 and the issuers.
_ISSUERS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}|3[47]\d{13}"
    r"|(?:6011|64[4-9]\d|65\d\d)\d{12}(?:\d{3})?|3(?:0[0-59]|[689]\d)\d{11,16}|35(?:2[89]|[3-8]\d)\d{12}|62\d{14,17}"
    r"|(?:5018|5020|5038|5893|6304|6759|676[1-3])\d{8,15}|220[0-4]\d{12}"
)
_CARD_GROUPS = re.compile(
    r"\d{13,19}|\d{4}([ .-]| {2})\d{4}\1\d{4}\1\d{1,4}(?:\1\d{3})?|\d{4}([ .-]| {2})\d{6}\2\d{4,5}|\d{8}[ .-]\d{8}"
)

_ARTICLE = re.compile(rb"(?:EAN|GTIN|UPC|ISBN|SKU|barcode|strichcode|artic|artik)[^\n]{0,16}\Z", re.IGNORECASE)


def find_cards(text: str, view: bytes) -> Iterator[Found]:
    """Numbers in a card's usual groups, of an issuer's range and length, whose check digit is right (Luhn)."""
    for match in _CARD.finditer(view):
        first, last = match.span()
        for piece in _CARD_GROUPS.finditer(match.group().decode()):
            start, end = first + piece.start(), first + piece.end()
            if (start == first and _goes_on_before(view, start)) or (end == last and _goes_on_after(view, end)):
                continue
            # Inside a longer row of numbers a card stands between spaces.
            if (start > first and view[start - 1 : start] != b" ") or (end < last and view[end : end + 1] != b" "):
                continue
            digits = re.sub(r"\D", "", piece.group())
            if len(digits) == 13 and _ARTICLE.search(view, max(0, start - 24), start):
                continue
            if _ISSUERS.fullmatch(digits) and _luhn(digits):
                yield Found(start, end, "card", digits)


def _goes_on_before(view: bytes, place: int) -> bool:
    return re.search(rb"[A-Za-z0-9_\xc0-\xff-]\Z|\d[.,]\Z", view[max(0, place - 2) : place]) is not None


def _goes_on_after(view: bytes, place: int) -> bool:
    return re.match(rb"[A-Za-z0-9_\xc0-\xff-]|[.,]\d", view[place : place + 2]) is not None


def _luhn(digits: str) -> bool:
    doubled = (int(digit) * 2 for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(number - 9 if number > 9 else number for number in doubled)) % 10 == 0


_IPV4 = re2.compile(rb"\b[0-9]{1,3}(?:\.|\[\.\])[0-9]{1,3}(?:\.|\[\.\])[0-9]{1,3}(?:\.|\[\.\])[0-9]{1,3}\b", LATIN1)
_IPV6 = re2.compile(rb"\b[23][0-9A-Fa-f]{3}:[0-9A-Fa-f:]{2,36}(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3})?", LATIN1)
_VERSION_BEFORE = re.compile(
    rb"(?:\bv|\bver\.?|version\w*|release\w*|\brev\.?|build|firmware|driver|section|chapter|clause|table|figure|\xa7|rfc|\boid"
    rb"|[=<>~^]=|[~^]|\bpip install|(?:^|[\s(\"'])[A-Za-z][\w.]*/)[\"']?\s{0,2}[:=]?\s{0,2}[\"']?\Z",
    re.IGNORECASE,
)
_HEADING_AFTER = re.compile(rb"\.?[ \t]+[A-Z][a-z]")


def find_ips(text: str, view: bytes) -> Iterator[Found]:
    """Addresses that are routed on the internet. Private, loopback and documentation ones stay, and so do version numbers."""
    for match in _IPV4.finditer(view) if b"." in view else ():
        start, end = match.span()
        if view[max(0, start - 1) : start] in (b".", b"-", b"_", b"+") or re.match(rb"[._+-]\w", view[end : end + 2]):
            continue
        if not _looks_like_a_version(view, start, end) and (address := _routed(match.group().replace(b"[.]", b"."))):
            yield Found(start, end, "ip", address)
    for match in _IPV6.finditer(view) if b":" in view else ():
        start, end = (
            match.start(),
            match.start() + len(match.group().rstrip(b":") if not match.group().endswith(b"::") else match.group()),
        )
        if view[max(0, start - 1) : start] not in (b":", b"-", b".") and (address := _routed(view[start:end])):
            yield Found(start, end, "ip", address)


def _looks_like_a_version(view: bytes, start: int, end: int) -> bool:
    line = view.rfind(b"\n", max(0, start - 24), start) + 1 or max(0, start - 24)
    before = view[line:start]
    if _VERSION_BEFORE.search(before) and not before.endswith(b"//"):
        return True
    small = all(int(part) < 20 for part in re.findall(rb"\d+", view[start:end]))
    return small and not before.strip(b" \t#*>-") and bool(_HEADING_AFTER.match(view, end))


def _routed(written: bytes) -> str:
    try:
        address = ipaddress.ip_address(written.decode())
    except ValueError:
        return ""
    return address.compressed if address.is_global and not address.is_multicast else ""


FINDERS = (
    ("email", rb"@|%40|[\[({] ?(?:at|AT) ?[\])}]| (?:at|AT) [A-Za-z0-9-]{1,40} (?:dot|DOT) ", find_emails),
    ("iban", _IBAN.pattern, find_ibans),
    ("card", rb"[0-9](?:[ .-]{0,2}[0-9]){12}", find_cards),
    ("ip", rb"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|[0-9]\[\.\]|\b[23][0-9A-Fa-f]{3}:[0-9A-Fa-f:]{2}", find_ips),
)
"""Each kind, what has to be in a text (for RE2) before any can be found, and its finder."""
