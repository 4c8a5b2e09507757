"""Secrets: keys, tokens and passwords, by the forms their issuers publish and by what stands before them.

Found: tokens with a published prefix, JSON web tokens, private key blocks, passwords in URLs, Authorization headers, and values assigned
to names such as ``password``, ``api_key`` or ``SECRET``. Not found: a password that is an ordinary word in an ordinary sentence.
Values that are no secrets (``${VAR}``, ``<your key>``, ``input()``, types, file names) stay.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator

import re2

from data_jobs.pii import Found

_W = r"[A-Za-z0-9_-]"
_AN = r"[A-Za-z0-9]"
# Prefixes so odd that what stands before them does not matter (a letter may: "\n" in a JSON string ends in one).
_ODD = (
    rf"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{{16}}|gh[pousr]_{_AN}{{20,}}|github_pat_[A-Za-z0-9_]{{20,}}|gl(?:pat|dt|rt|cbt|ptt|ft|imt|"
    rf"agent|soat|oas|ffct)-{_W}{{16,}}|GR1348941{_W}{{20,}}|xox[abceoprs](?:\.xox[bp])?-[A-Za-z0-9-]{{10,}}|xapp-[0-9]-[A-Za-z0-9-]"
    rf"{{10,}}|hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/]{{20,}}|(?:sk|rk|pk)_(?:live|test|prod)_{_AN}{{10,}}|"
    rf"whsec_[A-Za-z0-9+/=]{{20,}}|AIza{_W}{{30,}}|ya29\.[A-Za-z0-9_.-]{{20,}}|GOCSPX-{_W}{{20,}}|npm_{_AN}{{30,}}|pypi-{_W}"
    rf"{{20,}}|hf_{_AN}{{20,}}|api_org_{_AN}{{20,}}|SG\.{_W}{{16,}}\.{_W}{{16,}}|eyJ{_W}{{6,}}(?:\.{_W}{{0,}}){{2,}}|"
    rf"do[opr]_v1_[a-f0-9]{{40,}}|shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{{32}}|sq0[a-z]{{3}}-{_W}{{20,}}|dckr_(?:pat|oat)_{_W}{{20,}}|"
    rf"lin_api_{_AN}{{30,}}|ntn_{_AN}{{30,}}|ATATT3[A-Za-z0-9_=-]{{60,}}|hv[sbr]\.{_W}{{20,}}|"
    rf"gl(?:sa|c)_[A-Za-z0-9_+/=]{{30,}}|NRAK-[A-Z0-9]{{27}}|AGE-SECRET-KEY-1[A-Z0-9]{{58}}|PMAK-[a-f0-9-]{{40,}}|"
    rf"dp\.(?:pt|st|ct|sa)\.[A-Za-z0-9._-]{{20,}}|sntry[su]_[A-Za-z0-9_=+/-]{{30,}}|gsk_{_AN}{{40,}}|r8_{_AN}{{30,}}|pplx-{_AN}{{40,}}|"
    rf"rubygems_[a-f0-9]{{48}}|figd_{_W}{{30,}}|pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_.=-]{{20,}}|sbp_[a-f0-9]{{40}}|EAAA{_W}{{50,}}|"
    rf"dapi[a-f0-9]{{32}}"
)
# Prefixes that ordinary words have too: only at the start of a word, and with a digit in them.
_SHORT = rf"sk-{_W}{{16,}}|xai-{_AN}{{30,}}|(?:AC|SK)[0-9a-f]{{32}}|key-[0-9a-f]{{32}}|pul-[a-f0-9]{{40}}|secret_{_AN}{{30,}}|cio{_AN}{{32}}|[MNO]{_W}{{22,27}}\.{_W}{{6}}\.{_W}{{27,}}"
_TOKEN = re2.compile(rf"(?:\b|\\[nrt]|%[0-9A-Fa-f]{{2}})({_SHORT})|({_ODD})".encode())
# Without a prefix: what marks them stands in the middle, and is looked for first.
_MARKED = tuple(
    (mark, re.compile(rb"(?<![\w-])" + pattern + rb"(?![\w-])"))
    for mark, pattern in (
        (b":AA", rb"[0-9]{8,10}:AA[\w-]{32,36}"),
        (b"Q~", rb"[\w~.-]{3}[0-9]Q~[\w~.-]{30,40}"),
        (b".atlasv1.", rb"[A-Za-z0-9]{14}\.atlasv1\.[\w=-]{60,80}"),
        (b"-us", rb"[0-9a-f]{32}-us[0-9]{1,2}"),
        (b"==", rb"[A-Za-z0-9+/]{86}=="),
    )
)
_AWS_SECRET = re.compile(rb"(?<![A-Za-z0-9+/=_-])[A-Za-z0-9+/]{40}(?![A-Za-z0-9+/=_-])")

_PEM = re2.compile(rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END = re.compile(rb"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_BODY = re.compile(rb"(?:[A-Za-z0-9+/=\s>|\"',]|\\[nrt]|[A-Z][A-Za-z-]{2,20}: [^\n\\]{0,80})*+")
_PEM_MOST = 1 << 16

_URL = re2.compile(rb"[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s:/@\"'<>`]*:([^\s\"'<>`/]+|[^\s\"'<>`@]+)@")
_HEADER = re2.compile(
    rb"(?i)(?:authorization[\"'\\]{0,3}[ \t]*[:=,][ \t]*[\"'\\]{0,3}(?:basic|token|apikey|digest|bearer|negotiate|key)[ \t]+|\bbearer[ \t]+)([A-Za-z0-9._~+/=:-]{6,})"
)
_USER_OPTION = re2.compile(rb"(?:-u|--user|--proxy-user)[ =]?[\"']?[A-Za-z0-9_.@-]{1,64}:([^\s\"':/{}<>$][^\s\"']{2,})")

_NAME = re2.compile(
    rb"(?i)passw(?:or)?d|passwort|passphrase|passcode|kennwort|mot de passe|contrase|wachtwoord|pwd|[a-z]_?pass\b|secret|token|credential"
    rb"|api[ _.-]?key|authorization|_auth\b|sess(?:ion)?[_-]?id|\bsig\b"
    rb"|(?:access|account|auth|private|signing|encryption|encrypt|master|license|service|storage|session|client|shared|webhook|deploy|app"
    rb"|application|admin|security|subscription|functions?)[ _.-]?key"
)
_PASSWORD = re.compile(rb"pass|pwd|kennwort|contrase|wachtwoord", re.IGNORECASE)
_TAIL = re.compile(
    rb"(?P<suffix>[\w.\-]{0,40})(?P<close>\\?[\"'`*_)\]]{0,4})"
    rb"(?:[ \t]+(?:for|of|to|on|f\xfcr|von|de|pour|is set|has been set|was)\b[^\n:=\"'`|]{0,40}?)?"
    rb"(?:[ \t]*:[ \t]*[&\w<>']{1,24}(?:\[\])?[ \t]*=[ \t]*|(?P<op>[ \t]*(?::=|=>|===?|!=|[:=]|->|>|,(?=[ \t]*[\"'])|\|(?=[ \t]))[ \t]*|[ \t]+(?:is|are|ist|lautet|est|es)"
    rb"[ \t]*:?[ \t]+)[*_]{0,3}[ \t]*|(?P<flag>[ \t]+))"
    rb"(?:(?P<escaped>\\[\"'])(?P<inner>[^\n]{1,512}?)(?P=escaped)|[bru]{0,2}\"(?P<double>(?:[^\"\\\n]|\\.){1,512})\"|[bru]{0,2}'(?P<single>(?:[^'\\\n]|"
    rb"\\.){1,512})'|`(?P<tick>[^`\n]{1,512})`|(?P<bare>[^\s\"'`<>|]{3,512}))"
)
_FLAG = re.compile(rb"(?:--?[\w-]*|\b(?:login|user|username)[ \t]+\S{1,64}[ \t]+)\Z")
_NOT_THE_VALUE = re.compile(
    rb"[_.-]?(?:length|len|size|count|type|name|field|file|filename|path|dir|url|uri|ids?|policy|expir\w*|ttl|lifetime|env|hint|label|prompt"
    rb"|placeholder|regex|pattern|format|class|provider|manager|store|reset|ring|holder|endpoint|host|header|min|max|limit|budget|s|ized?|izer"
    rb"|usage|index|at|version|algorithm|strength|required|enabled|error|ref|scope|status|arn|hash|digest)\Z",
    re.IGNORECASE,
)
_TEMPLATE = re.compile(
    rb"\$|%[A-Z({s]|\{|<|\[[A-Z_]+_?\d*\]|\*{2,}|\.{2,}|[xX]{4,}|#\{|@|!|\(|--|.*\${|.*\{\{|.*\$\(|.*\w[(\[]|.*(?:::|->|\.\.)|(?:[\"'/.~]|https?:|file:|env:|vault:|ref\+|arn:)"
)
_EXAMPLE = re.compile(
    rb"(?:your|my|the|an?|some|new|old|user|admin|root|db|test|fake|dummy|sample|example|default|insert|enter|replace|change|put|secret|password"
    rb"|passwd|passwort|pass|pwd|token|key|api|access|auth|bearer|client|here|me|it|with|this|value|string|str|text|int|bool|bytes|none|null"
    rb"|nil|true|false|undefined|required|optional|hidden|redacted|placeholder|todo|tbd|xxx+|[\W_])+\Z",
    re.IGNORECASE,
)
_FILE = re.compile(
    rb".*\.(?:ya?ml|json|txt|pem|key|py|rs|go|js|ts|env|crt|cer|conf|cfg|toml|ini|md|html?|xml|sh)(?:[#?].*)?\Z", re.IGNORECASE
)
_WORDS = re.compile(
    rb"[A-Z]?[a-z]+(?:[-_. /][A-Za-z]?[a-z]*)*(?P<number>[-_.]?v?\d{1,4})?\Z|[A-Z]+[0-9]{0,2}(?:[_-][A-Z0-9]+)*\Z|(?:[A-Z]?[a-z]+){1,6}\d{0,2}\Z"
)
_NEAR = re2.compile(
    rb"(?i)(?:secret|token|credential|api[ _-]?key|(?:access|private|signing|encryption|license)[ _-]?key|passphrase|password)[^\n]{0,32}?[ \t\"'`:=,(\[|]([A-Za-z0-9+/_=-]{20,})"
)


def _keys(view: bytes) -> Iterator[tuple[int, int]]:
    """Private key blocks, also on one line with ``\\n`` spelt out, quoted, or without their end."""
    place = 0
    while (match := _PEM.search(view, place)) is not None:
        end = _PEM_END.search(view, match.end(), match.end() + _PEM_MOST)
        body = _PEM_BODY.match(view, match.end(), match.end() + _PEM_MOST)
        place = end.end() if end else body.end() if body else match.end()
        if end is None and place - match.end() < 16:
            continue
        while end is None and view[place - 1 : place].isspace():
            place -= 1
        yield match.start(), place


def _tokens(view: bytes) -> Iterator[tuple[int, int]]:
    for match in _TOKEN.finditer(view):
        if match.group(1) is not None:
            if re.search(rb"\d", match.group(1)) and not _WORDS.match(match.group(1)):
                yield match.span(1)
            continue
        yield match.start(), match.end() - _trailing(match.group())
        if match.group()[:4] in (b"AKIA", b"ASIA"):
            for secret in _AWS_SECRET.finditer(view, max(0, match.start() - 200), match.end() + 200):
                if (
                    _entropy(secret.group()) > 3.5
                    and re.search(rb"[A-Z]", secret.group())
                    and re.search(rb"[a-z]", secret.group())
                ):
                    yield secret.span()


def _marked(view: bytes) -> Iterator[tuple[int, int]]:
    for mark, pattern in _MARKED:
        place = view.find(mark)
        while place >= 0:
            match = pattern.search(view, max(0, place - 90), place + 120)
            if match:
                yield match.span()
            place = view.find(mark, max(place + 1, match.end() if match else 0))


def _trailing(value: bytes) -> int:
    return len(value) - len(value.rstrip(b".-"))


def _in_urls(view: bytes) -> Iterator[tuple[int, int]]:
    if b"://" in view:
        for match in _URL.finditer(view):
            if not _is_blank(match.group(1)) and not re.match(rb"\d{1,5}/", match.group(1)):
                yield match.span(1)
    for match in _HEADER.finditer(view):
        value = match.group(1).rstrip(b".:-")
        if not _is_blank(value) and (re.search(rb"\d", value) or len(value) >= 16 and not _WORDS.match(value)):
            yield match.start(1), match.start(1) + len(value)
    for match in _USER_OPTION.finditer(view):
        if not _is_blank(match.group(1)) and not re.fullmatch(rb"[\d:]+", match.group(1)):
            yield match.span(1)


def _assigned(view: bytes) -> Iterator[tuple[int, int]]:
    for name in _NAME.finditer(view):
        tail = _TAIL.match(view, name.end(), name.end() + 700)
        if tail is None or (tail["flag"] and not _FLAG.search(view, max(0, name.start() - 80), name.start())):
            continue
        if tail["close"] == b"]" and tail["op"] and tail["op"].strip() == b":":  # a link's definition in Markdown
            continue
        suffix = tail["suffix"]
        if _NOT_THE_VALUE.search(suffix) and not re.search(rb"(?:key|pass|secret|token|password)s?\Z", suffix, re.IGNORECASE):
            continue
        kind = next((one for one in ("inner", "double", "single", "tick", "bare") if tail[one] is not None), "bare")
        start, end = tail.span(kind)
        if kind == "bare":
            end = start + len(_bare(tail["bare"], view[max(0, name.start() - 40) : name.start()]))
        loose = kind == "bare" and bool(re.fullmatch(rb"[ \t]+=[ \t]+|[ \t]*,[ \t]*|[ \t]*[=!]==?[ \t]*", tail["op"] or b""))
        password = bool(_PASSWORD.search(name.group()) or _PASSWORD.search(suffix))
        if _is_secret(view[start:end], password, kind != "bare", loose):
            yield start, end


def _bare(value: bytes, before: bytes) -> bytes:
    """A value without quotes ends where the line of a connection string, a query or a call goes on."""
    value = value.split(b";")[0]
    if re.search(rb"[?&][\w.-]*\Z", before):
        value = value.split(b"&")[0].split(b"#")[0]
    value = re.split(rb"&(?=[\w.-]+=)|,(?=\Z|[\w.-]+[=:])|\\[nrt]|\\[\"']", value)[0]
    stripped = value.rstrip(b".,:)]}*\\")
    return stripped if stripped.count(b"(") == value.count(b"(") else value


def _is_blank(value: bytes) -> bool:
    """Whether it only holds the place of a secret."""
    return bool(
        _TEMPLATE.match(value)
        and not re.match(rb"[!@$/.]", value)
        or re.match(rb"\$[{(A-Za-z_]+\}?\Z|\$\{|\*+\Z|\.{3}", value)
        or _EXAMPLE.match(value)
    )


def _is_secret(value: bytes, password: bool, quoted: bool, loose: bool) -> bool:
    value = value.strip()
    if len(value) < (5 if password else 8) or _EXAMPLE.match(value) or re.match(rb"\[[A-Z]+_\d+\]", value):
        return False
    if re.search(rb"\s", value) or _FILE.match(value):
        return False
    digits, symbols = re.search(rb"\d", value), re.search(rb"[^\w.\-/]", value)
    template = _TEMPLATE.match(value)
    if template and not (
        password
        and digits
        and re.match(rb"[!@$(\[{/.#%*]?[\w!@#$%^&*+?.,~/=-]+\Z", value)
        and not re.match(rb"\$\w+\Z|%[A-Z]|https?:|/\w+/", value)
    ):
        return False
    words = _WORDS.match(value)
    if words:
        if password and words["number"] and not loose:
            return True
        return quoted and password and (len(value) >= 16 and value.isalpha() and value.islower())
    if value.isdigit():
        return password and quoted and len(value) >= 6
    if loose and re.fullmatch(rb"[A-Za-z_][\w.]*", value) and not (digits and _entropy(value) > 3.0 and len(value) >= 12):
        return False
    if re.fullmatch(rb"[\d.,:+-]+", value) or (not password and re.fullmatch(rb"[\w.-]*\.[A-Za-z]{2,6}", value)):
        return False
    if password:
        return bool(digits or symbols or _entropy(value) > 3.0)
    return bool(digits and re.search(rb"[A-Za-z]", value)) or (len(value) >= 16 and _entropy(value) > 3.5)


def _near_a_word(view: bytes) -> Iterator[tuple[int, int]]:
    for match in _NEAR.finditer(view):
        value = match.group(1).rstrip(b"-_.")
        mixed = re.search(rb"\d", value) and re.search(rb"[A-Za-z]", value)
        if (
            mixed
            and not _WORDS.match(value)
            and b"/" not in value[:2]
            and _entropy(value) > 3.2
            and not _EXAMPLE.match(value)
            and _switches(value) > 3
        ):
            yield match.start(1), match.start(1) + len(value)


def _switches(value: bytes) -> int:
    """How often letters and digits (or capitals and small letters) take turns: often in random strings, seldom in words."""
    return len(re.findall(rb"[a-z](?=[A-Z0-9])|[A-Z](?=[0-9])|[0-9](?=[A-Za-z])", value))


def _entropy(value: bytes) -> float:
    """Shannon entropy in bits per character."""
    return -sum(number / len(value) * math.log2(number / len(value)) for number in Counter(value).values())


FINDERS = (
    (rb"PRIVATE KEY", _keys),
    (_TOKEN.pattern, _tokens),
    (rb":AA[A-Za-z0-9_-]{32}|[0-9]Q~|\.atlasv1\.|[0-9a-f]{32}-us[0-9]|[A-Za-z0-9+/]{40}==", _marked),
    (rb"://[^\s]*@|(?i:\bbearer[ \t]|authorization)|-u|--user|--proxy-user", _in_urls),
    (_NAME.pattern, _assigned),
    (_NEAR.pattern, _near_a_word),
)
"""What has to be in a text (for RE2) before a finder can find anything, and the finder: bytes to places."""


def find_secrets(text: str, view: bytes) -> Iterator[Found]:
    """Every secret in the text; linear in its length."""
    for _, finder in FINDERS:
        for start, end in finder(view):
            yield Found(start, end, "secret", text[start:end])
