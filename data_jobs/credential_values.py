"""Whether a value that was assigned to a password, key or token is one, or stands for one: ``${VAR}``, ``<your key>``, ``input()``,
a type, a file's name, an ordinary word.

Values are bytes, one for each character. All patterns take linear time (RE2, or possessive).
"""

import math
import re
from collections import Counter

import re2

_BLANK = re.compile(rb"\$[({]|\$[A-Za-z_]\w*+\Z|\{|<|\[[A-Z_]+\d*(?:\]|\Z)|\*+\Z|%\(|%[sdv]\Z|%[A-Z_]+%\Z|\.{3}|[xX]{3,}\Z")
_VOCABULARY = re2.compile(
    rb"(?i)(?:your|my|the|an?|some|new|old|user|name|admin|root|db|test|fake|dummy|sample|example|default|insert|enter|replace|change|put"
    rb"|secret|password|passwd|passwort|kennwort|pass|pwd|token|key|api|access|auth|bearer|client|here|me|it|with|this|value|string|str|text"
    rb"|int|bool|bytes|char|varchar|blob|none|null|nil|true|false|undefined|required|optional|hidden|redacted|masked|placeholder|todo|tbd"
    rb"|xxx+|plain|plaintext|bcrypt|scrypt|argon|pbkdf|hashed|encrypted|prompt|stdin|env|file|disabled|enabled|empty|strong|weak|invalid"
    rb"|valid|incorrect|missing|wrong|forgotten|forgot|reset|field|input|label|basic|digest|oauth|[\W_])+"
)
_CODE = re.compile(
    rb"\w*+[(\[]|(?:[^:.>{$-]|:(?!:)|(?<!\d)\.|\.(?!\.)|-(?!>)|\{(?!\{)|\$(?![{(])|>)*+(?:::|->|\.\.|\{\{|\$[{(])|[\w.]++[(\[]"
)
_CODE_STARTS = re.compile(rb"[\"'~!(]|--|#\{|@\w+[(.]|\.{1,2}[/\\]|\.[a-z_]+(?:\(|\Z)|(?:https?|file|env|vault|arn|ref\+\w+):")
_PATH = re.compile(rb"(?:~|\.{1,2}|[A-Za-z]:)?[/\\]{1,3}[\w.@ -]++(?:[/\\][\w.@-]*+)*+\Z")
_FILE = re2.compile(rb".*\.(?i:ya?ml|json|txt|pem|key|py|rs|go|js|ts|env|crt|cer|conf|cfg|toml|ini|md|html?|xml|sh)(?:[#?].*)?")
_WORDS = re.compile(
    rb"[A-Z]?[a-z]++(?:[-_. /][A-Z]?[a-z]*+)*+(?P<number>[-_.]?v?\d{1,4})?\Z"
    rb"|[A-Z]++[0-9]{0,2}(?:[_-][A-Z0-9]++)*+\Z|[A-Z]?[a-z]++(?:[A-Z][a-z]++)*+\d{0,2}\Z"
)
_NAME = re.compile(rb"[A-Za-z_][\w.]*+\Z")
_MARKS = re.compile(rb"[^\w.\-/\s]")


def is_blank(value: bytes) -> bool:
    """Whether the value only holds the place of a secret."""
    return bool(_BLANK.match(value) or _VOCABULARY.fullmatch(value))


def is_random(value: bytes) -> bool:
    """Whether no word and no name of a thing looks like this: letters and digits that take turns."""
    mixed = re.search(rb"\d", value) and re.search(rb"[A-Za-z]", value)
    return bool(mixed) and not _WORDS.match(value) and not _PATH.match(value) and entropy(value) > 3.2 and switches(value) > 3


def is_key(value: bytes, hexadecimal: bool) -> bool:
    """Whether a value with a weak name ("key", "session") is a secret: long, in three kinds of characters (or only of hexadecimal
    digits, where those are not likely a digest), without order."""
    if hexadecimal and re.fullmatch(rb"[0-9a-f]{32,}", value):
        return True
    kinds = all(re.search(kind, value) for kind in (rb"[a-z]", rb"[A-Z]", rb"\d"))
    return (
        kinds
        and len(value) >= 20
        and re.fullmatch(rb"[\w+/=-]+", value) is not None
        and is_random(value)
        and entropy(value) > 3.8
    )


def is_strong(value: bytes) -> bool:
    """Whether a word right after "password", without a sign between them, can only be one."""
    return len(value) >= 6 and re.search(rb"\d", value) is not None and re.search(rb"\w[!@#$%^&*+?~]", value) is not None


def is_token(value: bytes, quoted: bool, loose: bool) -> bool:
    """Whether what a key, token or secret was set to is a secret. ``loose``: in a place where code has names of other things."""
    if len(value) < 8 or _is_something_else(value) or _CODE_STARTS.match(value) or _CODE.match(value) or _WORDS.match(value):
        return False
    if re.fullmatch(rb"[\d.,:+-]+", value) or re.fullmatch(rb"[\w.-]*\.[A-Za-z]{2,6}", value):
        return False
    digits = re.search(rb"\d", value)
    if loose and _NAME.match(value) and not (digits and entropy(value) > 3.0 and len(value) >= 12):
        return False
    return bool(digits and re.search(rb"[A-Za-z]", value)) or (len(value) >= 16 and entropy(value) > 3.5 and switches(value) > 3)


def is_password(value: bytes, quoted: bool, loose: bool, alone: bool) -> bool:
    """Whether what a password was set to is one. ``alone``: the value ends a line that began with the name."""
    if len(value) < 5 or _is_something_else(value):
        return False
    digits, marks = re.search(rb"\d", value), _MARKS.search(value)
    if (_CODE_STARTS.match(value) or _CODE.match(value)) and not (
        digits and marks and not re.search(rb"\w[(\[]|::|->|\{\{|\$[{(]", value)
    ):
        return False
    words = _WORDS.match(value)
    if words:
        if words["number"]:
            return not loose
        return not loose and (
            (quoted and value.isalpha() and value.islower() and len(value) >= 6)
            or (len(value) >= 20 or (alone and value.islower() and value.isalpha() and len(value) >= 6))
        )
    if value.isdigit():
        return quoted and len(value) >= 6
    if loose and _NAME.match(value) and not (digits and entropy(value) > 3.0 and len(value) >= 12):
        return False
    return bool(digits or marks or entropy(value) > 3.0) and not re.fullmatch(rb"[\d.,:+-]+", value)


def is_phrase(value: bytes) -> bool:
    """Whether a quoted value with spaces is a password and no sentence about passwords: it has a sign inside a word."""
    return len(value) <= 64 and re.search(rb"\w[@#$%^*+&!]\w", value) is not None


def _is_something_else(value: bytes) -> bool:
    if is_blank(value) or re.search(rb"\s", value):
        return True
    return bool(_FILE.fullmatch(value)) or (_PATH.match(value) is not None and entropy(value) < 4.2)


def switches(value: bytes) -> int:
    """How often letters and digits, or capitals and small letters, take turns: often in random strings, seldom in words."""
    return len(re.findall(rb"[a-z](?=[A-Z0-9])|[A-Z](?=[0-9])|[0-9](?=[A-Za-z])", value))


def entropy(value: bytes) -> float:
    """Shannon entropy in bits per character."""
    return -sum(number / len(value) * math.log2(number / len(value)) for number in Counter(value).values())
