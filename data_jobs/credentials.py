"""Secrets: keys, tokens and passwords, by the forms their issuers publish and by what stands before them.

Found: tokens with a published prefix, JSON web tokens, private key blocks, passwords in URLs, Authorization headers, and values assigned
to names such as ``password``, ``api_key`` or ``SECRET``. Not found: a password that is an ordinary word in an ordinary sentence.
Values that are no secrets (``${VAR}``, ``<your key>``, ``input()``, types, file names) stay.
"""

import re
from collections.abc import Iterator
from itertools import chain

import re2

from data_jobs.credential_values import entropy, is_blank, is_key, is_password, is_phrase, is_random, is_strong, is_token
from data_jobs.pii import LATIN1, Found

Span = tuple[int, int]

_W = r"[A-Za-z0-9_-]"
_AN = r"[A-Za-z0-9]"
# Prefixes so odd that what stands before them does not matter (a letter may: "\n" in a JSON string ends in one).
_ODD = (
    rf"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{{16}}|gh[pousr]_{_AN}{{20,}}|github_pat_[A-Za-z0-9_]{{20,}}|gl(?:pat|dt|rt|cbt|ptt|ft|imt|"
    rf"agent|soat|oas|ffct)-{_W}{{16,}}|GR1348941{_W}{{20,}}|xox[abceoprs](?:\.xox[bp])?-[A-Za-z0-9-]{{10,}}|xapp-[0-9]-[A-Za-z0-9-]"
    rf"{{10,}}|hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/]{{20,}}|discord(?:app)?\.com/api/webhooks/[0-9]+/{_W}{{20,}}|(?:sk|rk|pk)_(?:live|test|prod)_{_AN}{{10,}}|"
    rf"whsec_[A-Za-z0-9+/=]{{20,}}|AIza{_W}{{30,}}|ya29\.[A-Za-z0-9_.-]{{20,}}|GOCSPX-{_W}{{20,}}|npm_{_AN}{{30,}}|pypi-{_W}"
    rf"{{20,}}|hf_{_AN}{{20,}}|api_org_{_AN}{{20,}}|SG\.{_W}{{16,}}\.{_W}{{16,}}|eyJ{_W}{{6,}}(?:\.{_W}{{0,}}){{2,}}|"
    rf"do[opr]_v1_[a-f0-9]{{40,}}|shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{{32}}|sq0[a-z]{{3}}-{_W}{{20,}}|dckr_(?:pat|oat)_{_W}{{20,}}|"
    rf"lin_api_{_AN}{{30,}}|ntn_{_AN}{{30,}}|ATATT3[A-Za-z0-9_=-]{{60,}}|hv[sbr]\.{_W}{{20,}}|"
    rf"gl(?:sa|c)_[A-Za-z0-9_+/=]{{30,}}|NRAK-[A-Z0-9]{{27}}|AGE-SECRET-KEY-1[A-Z0-9]{{58}}|PMAK-[a-f0-9-]{{40,}}|"
    rf"dp\.(?:pt|st|ct|sa)\.[A-Za-z0-9._-]{{20,}}|sntry[su]_[A-Za-z0-9_=+/-]{{30,}}|gsk_{_AN}{{40,}}|r8_{_AN}{{30,}}|pplx-{_AN}{{40,}}|"
    rf"rubygems_[a-f0-9]{{48}}|figd_{_W}{{30,}}|pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_.=-]{{20,}}|sbp_[a-f0-9]{{40}}|"
    rf"dapi[a-f0-9]{{32}}"
)
# Prefixes that ordinary words have too: only at the start of a word, and with a digit in them.
_SHORT = (
    rf"sk-{_W}{{16,}}|xai-{_AN}{{30,}}|(?:AC|SK)[0-9a-f]{{32}}|key-[0-9a-f]{{32}}|pul-[a-f0-9]{{40}}|secret_{_AN}{{30,}}|cio{_AN}{{32}}"
    rf"|[MNO]{_W}{{22,27}}\.{_W}{{6}}\.{_W}{{27,}}"
)
_TOKEN = re2.compile(rf"(?:\b|\\[nrt]|%[0-9A-Fa-f]{{2}})({_SHORT})|({_ODD})".encode(), LATIN1)
# Without a prefix: what marks them stands in the middle, and is looked for first.
_MARKED = tuple(
    (mark, re.compile(rb"(?:(?<![\w+/-])|(?<=\\[nrt]))(?<!base64,)" + pattern + rb"(?![\w+/=-])"))
    for mark, pattern in (
        (b":AA", rb"[0-9]{8,10}:AA[\w-]{32,36}"),
        (b"Q~", rb"[\w~.-]{3}[0-9]Q~[\w~.-]{30,40}"),
        (b".atlasv1.", rb"[A-Za-z0-9]{14}\.atlasv1\.[\w=-]{60,80}"),
        (b"-us", rb"[0-9a-f]{32}-us[0-9]{1,2}"),
        (b"==", rb"[A-Za-z0-9+/]{86}=="),
    )
)
_AWS_SECRET = re.compile(rb"(?<![A-Za-z0-9+/=_-])[A-Za-z0-9+/]{40}(?![A-Za-z0-9+/=_-])")

_PEM = re2.compile(rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----", LATIN1)
_PEM_END = re2.compile(rb"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----", LATIN1)
_PEM_BODY = re.compile(
    rb"(?:(?:[\s>|\"',#]|\\[nrt])*+(?:[A-Za-z0-9+/=]{16,}+|(?:Proc-Type|DEK-Info|Version|Comment): [^\n\\]{0,80}))*+"
)
_PEM_MOST = 1 << 14

_URL = re2.compile(rb"[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s:/@\"'<>`]*:([^\s\"'<>`/]+|[^\s\"'<>`@]+)@", LATIN1)
_HEADER = re2.compile(
    rb"(?i)(?:authorization[\"'\\]{0,3}[ \t]*[:=,][ \t]*[\"'\\]{0,3}(?:basic|token|apikey|digest|bearer|negotiate|key)(?:[ \t]+|%20|\+)"
    rb"|\bbearer(?:[ \t]+|%20))([A-Za-z0-9._~+/=:-]{6,})",
    LATIN1,
)
# curl -u name:…, sshpass -p …, mysql -p…; "credentials: admin / …"
_OPTION = re2.compile(
    rb"(?:^|[\s\"'])(?:-u|--user|--proxy-user)[ =]?[\"']?[A-Za-z0-9_.@-]{1,64}:([^\s\"':/{}<>$][^\s\"']{2,})"
    rb"|sshpass +-p ?[\"']?([^\s\"']{4,})|\bmysql[a-z]*\b[^\n]{0,80} -p[\"']?([^\s\"']{4,})"
    rb"|(?i:credentials?|creds|logins?|zugangsdaten|anmeldung)[a-z \t\"'*]{0,16}[:=][ \t*\"'`]*[A-Za-z0-9_.@-]{1,64}[ \t]*[/:|][ \t]*"
    rb"([^\s\"'`|,]{6,})",
    LATIN1,
)

_NAME = re2.compile(
    rb"(?i)passw(?:or)?d|passwort|passphrase|passcode|kennwort|mot de passe|contrase(?:n|\xf1)a|wachtwoord|pwd|\bpw\b"
    rb"|[a-z]_?pass\b|\bpass\b|secret|token|credential|api[ _.-]?key|authorization|\bsig\b"
    rb"|(?:access|account|auth|private|signing|encryption|encrypt|master|license|service|storage|session|client|shared|webhook|deploy|app"
    rb"|application|admin|security|subscription|functions?)[ _.-]?key",
    LATIN1,
)
_PASSWORD = re.compile(rb"pass|pwd|\bpw|kennwort|contrase|wachtwoord", re.IGNORECASE)
_WEAK_NAME = re2.compile(
    rb"(?i)\b(key|_?auth|[a-z]*sess(?:ion)?[_-]?(?:id)?|cookie|sid)[\"'\])\\]{0,4}[ \t]{0,4}(?:=|:|=>)"
    rb"[ \t]{0,4}[\"'\\]{0,2}([A-Za-z0-9+/=_-]{20,})",
    LATIN1,
)
_SIGN = re.compile(
    rb"(?P<suffix>[\w.\-]{0,40}+)(?P<close>\\?[\"'`*_)\]]{0,4}+)(?:"
    # … of the service: …, … (staging) = …, … was changed to …
    rb"(?:[ \t]*\([^()\n]{1,30}\)|[ \t]+(?:for|of|on|f\xfcr|von|de|pour|has been|was)\b[^\n:=\"'`|]{0,40}?)?"
    rb"(?:[ \t]*:[ \t]*[&\w<>']{1,24}(?:\[\])?[ \t]*=[ \t]*"  # the type of a variable stands between
    rb"|(?P<op>[ \t]*(?::=|=>|===?|!=|[:=]|->|>|,(?=[ \t]*[\"'])|\|(?=[ \t]))[ \t]*|[ \t]+value="
    rb"|[ \t]+(?:is|are|to|ist|lautet|est|es)[ \t]*:?[ \t]+)[*_]{0,3}[ \t]*)"
    rb"|(?P<gap>[ \t]+))(?:(?P<escaped>\\[\"'])|[bru]{0,2}(?P<quote>[\"'`])|(?=[^\s\"'`<>|]{3}))"
)
_BARE = re.compile(rb"[^\s\"'`<>|]{3,256}+")
_ON = re.compile(rb"[^\s\"'`<>|&,;]*+")
_OPTION_BEFORE = re.compile(rb"(?:--?[\w-]*|\b(?:login|user|username)[ \t]+\S{1,64}[ \t]+)\Z")
_LINE_START = re.compile(rb"[ \t>*-]*+(?:(?:export|set|env)[ \t]+)?[\w.-]*+", re.IGNORECASE)
_NOT_THE_VALUE = re.compile(
    rb"[_.-]?(?:length|len|size|count|type|name|field|file|filename|path|dir|url|uri|ids?|policy|expir\w*|ttl|lifetime|env|hint|label|prompt"
    rb"|placeholder|regex|pattern|format|class|provider|manager|store|reset|ring|holder|endpoint|host|header|min|max|limit|budget|s|ized?|izer"
    rb"|usage|index|at|version|algorithm|strength|required|enabled|error|ref|scope|status|arn|hash|digest)\Z|\.[a-z]{1,4}\Z",
    re.IGNORECASE,
)
_STILL_THE_VALUE = re.compile(rb"(?:key|pass|secret|token|password)s?\Z", re.IGNORECASE)
_NEAR = re2.compile(
    rb"(?i)(?:secret|token|credential|api[ _-]?key|(?:access|private|signing|encryption|license)[ _-]?key|passphrase|password)[^\n]{0,32}?"
    rb"[ \t\"'`:=,(\[|]([A-Za-z0-9+/_=-]{20,})",
    LATIN1,
)


def _keys(view: bytes) -> Iterator[Span]:
    """Private key blocks, also on one line with ``\\n`` spelt out, quoted, or without their end."""
    begins = [match.span() for match in _PEM.finditer(view)]
    ends = chain((match.end() for match in _PEM_END.finditer(view)), (len(view) + _PEM_MOST,))
    end = next(ends)
    for number, (start, body) in enumerate(begins):
        while end <= body:
            end = next(ends)
        following = begins[number + 1][0] if number + 1 < len(begins) else len(view)
        if end <= following and end - body <= _PEM_MOST:
            yield start, end
        elif (found := _PEM_BODY.match(view, body, following)) and found.end() > body:
            yield start, found.end()


def _tokens(view: bytes) -> Iterator[Span]:
    for match in _TOKEN.finditer(view):
        if match.group(1) is not None:
            if is_random(match.group(1)):
                yield match.span(1)
            continue
        yield match.start(), match.start() + len(match.group().rstrip(b".-"))
        if match.group()[:4] in (b"AKIA", b"ASIA"):
            for secret in _AWS_SECRET.finditer(view, max(0, match.start() - 200), match.end() + 200):
                if (
                    entropy(secret.group()) > 3.5
                    and re.search(rb"[A-Z]", secret.group())
                    and re.search(rb"[a-z]", secret.group())
                ):
                    yield secret.span()


def _marked(view: bytes) -> Iterator[Span]:
    for mark, pattern in _MARKED:
        place = view.find(mark)
        while place >= 0:
            match = pattern.search(view, max(0, place - 90), place + 120)
            if match:
                yield match.span()
            place = view.find(mark, max(place + 1, match.end() if match else 0))


def _in_urls(view: bytes) -> Iterator[Span]:
    if b"://" in view:
        for match in _URL.finditer(view):
            if not is_blank(match.group(1)) and not re.match(rb"\d{1,5}/", match.group(1)):
                yield match.span(1)
    for match in _HEADER.finditer(view):
        value = match.group(1).rstrip(b".:-")
        if not is_blank(value) and (re.search(rb"\d", value) or (len(value) >= 16 and is_token(value, False, False))):
            yield match.start(1), match.start(1) + len(value)


def _in_options(view: bytes) -> Iterator[Span]:
    for match in _OPTION.finditer(view):
        group = next(number for number in (1, 2, 3, 4) if match.group(number) is not None)
        value = match.group(group)
        if not is_blank(value) and not re.fullmatch(rb"[\d:]+", value) and (group < 3 or is_password(value, False, False, False)):
            yield match.span(group)


def _assigned(view: bytes) -> Iterator[Span]:
    done = 0
    for name in _NAME.finditer(view):
        first, last = name.span()
        if first < done:
            continue
        sign = _SIGN.match(view, last, last + 240)
        if sign is None or (sign["close"] == b"]" and (sign["op"] or b"").strip() == b":"):  # "]:" defines a link in Markdown
            continue
        if _NOT_THE_VALUE.search(sign["suffix"]) and not _STILL_THE_VALUE.search(sign["suffix"]):
            continue
        start = sign.end()
        before = view[max(0, first - 80) : first]
        end = _end_of_value(view, sign, before)
        if end > start and _holds(view, view[first:last], sign, before, (start, end)):
            if sign["quote"] is None and end - start >= 250:
                end = _ON.match(view, end).end()
            yield start, end
            done = end


def _end_of_value(view: bytes, sign: re.Match[bytes], before: bytes) -> int:
    start = sign.end()
    opened = sign["escaped"] or sign["quote"]
    if opened:
        line = view.find(b"\n", start, start + 8192)
        end = view.find(opened, start, start + 8192 if line < 0 else line)
        while end > start and opened == b'"' and view[end - 1 : end] == b"\\" and view[end - 2 : end] != b"\\\\":
            end = view.find(opened, end + 1, start + 8192 if line < 0 else line)
        return end
    bare = _BARE.match(view, start)
    return start + len(_cut(bare.group(), before)) if bare else start


def _cut(value: bytes, before: bytes) -> bytes:
    """A value without quotes ends where the line of a connection string, a query or a call goes on."""
    value = value.split(b";")[0]
    if re.search(rb"[?&][\w.-]*\Z", before):
        value = re.split(rb"[&#]", value)[0]
    value = re.split(rb"&(?=[\w.-]+=)|,(?=\Z|[\w.-]+[=:])|\\[nrt]|\\[\"']", value)[0]
    stripped = value.rstrip(b".,:)]}*\\")
    return stripped if stripped.count(b"(") == value.count(b"(") else value


def _holds(view: bytes, name: bytes, sign: re.Match[bytes], before: bytes, span: Span) -> bool:
    value, quoted = view[span[0] : span[1]], bool(sign["escaped"] or sign["quote"])
    password = bool(_PASSWORD.search(name) or _PASSWORD.search(sign["suffix"]))
    if sign["gap"] and not _OPTION_BEFORE.search(before):
        return password and is_strong(value) and not is_blank(value) and b" " not in value
    op = sign["op"] or b""
    loose = b"," in op or (not quoted and bool(re.fullmatch(rb"[ \t]+=[ \t]+|[ \t]*[=!]==?[ \t]*", op)))
    if not password:
        return is_token(value.strip(), quoted, loose)
    if name.lower() == b"pass" and not is_strong(value) and not is_random(value):
        return False
    if b" " in value.strip():
        return quoted and not is_blank(value) and (is_phrase(value) or (name.lower() == b"passphrase" and value.count(b" ") >= 2))
    alone = view[span[1] : span[1] + 1] in (b"", b"\n") and _LINE_START.fullmatch(before.rpartition(b"\n")[2]) is not None
    return is_password(value.strip(), quoted, loose, alone)


def _near_a_word(view: bytes) -> Iterator[Span]:
    for match in _WEAK_NAME.finditer(view):
        if is_key(match.group(2), match.group(1).lower() != b"key"):
            yield match.span(2)
    for match in _NEAR.finditer(view):
        value = match.group(1).rstrip(b"-_.")
        if is_random(value) and not is_blank(value):
            yield match.start(1), match.start(1) + len(value)


FINDERS = (
    (rb"PRIVATE KEY", _keys),
    (_TOKEN.pattern, _tokens),
    (rb":AA[A-Za-z0-9_-]{32}|[0-9]Q~|\.atlasv1\.|[0-9a-f]{32}-us[0-9]|[A-Za-z0-9+/]{40}==", _marked),
    (rb"://[^\s]*@|(?i:\bbearer[ \t%]|authorization)", _in_urls),
    (rb"-u|--user|--proxy-user|sshpass|mysql|(?i:credential|creds|login|zugangsdaten|anmeldung)", _in_options),
    (_NAME.pattern, _assigned),
    (_NEAR.pattern + b"|" + _WEAK_NAME.pattern, _near_a_word),
)
"""What has to be in a text (for RE2) before a finder can find anything, and the finder: bytes to places."""


def find_secrets(text: str, view: bytes) -> Iterator[Found]:
    """Every secret in the text; linear in its length."""
    for _, finder in FINDERS:
        for start, end in finder(view):
            yield Found(start, end, "secret", text[start:end])
