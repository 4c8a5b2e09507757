"""What an answer must not carry out: the agent's prompt, its canary, and data in links to strange hosts.

Finds a prompt that is repeated in its own words; one that is retold in other words, it does not.
"""

import re
from typing import NamedTuple, Sequence

from cluster.domain.patterns import compiled
from cluster.domain.repeats import holds_canary, shingles, words
from cluster.guarding.bank import Hit

FOREIGN_LINK = "exfiltration-link"
LEAK = "prompt-leak"
WITHHELD = "The answer was withheld: it held what the agent keeps to itself."
REMOVED = "link-removed"
SHINGLE = 6
"""Words in a row that count as repeated."""
SHORTEST_PROMPT = 24
"""Words; the sentences of a shorter prompt may stand in an honest answer."""
LEAKED_SHARE = 0.3
_MARKDOWN = r"(!?)\[[^\]]{0,500}\]\(\s*<?(https?://[^\s)>]+)"
_REFERENCE = r"(?m)^()\s*\[[^\]]{1,200}\]:\s*<?(https?://[^\s>]+)"
_HTML = r"""<(img|a|iframe|script|link)\b[^>]{0,500}?\b(?:src|href)\s*=\s*["']?(https?://[^\s"'>]+)"""
_HOST = re.compile(r"https?://(?:[^/@\s]*@)?([^/?#\s:)>\"']+)", re.IGNORECASE)
_CARRIES = re.compile(r"[?&#;=]|%[0-9A-Fa-f]{2}|/[\w+-]{24,}")


class Link(NamedTuple):
    """A link to a host that no source names."""

    url: str
    hit: Hit


def prompt_leaks(answer: str, prompt: str) -> list[Hit]:
    """The canary of a prompt (a line ``canary: TOKEN`` in it) in an answer, and a long prompt that the answer repeats."""
    found = []
    if holds_canary(answer, prompt):
        found.append(Hit(kind=LEAK, pattern="canary", severity="high"))
    kept, said = shingles(prompt, SHINGLE), shingles(answer, SHINGLE)
    if len(words(prompt)) >= SHORTEST_PROMPT and len(kept & said) >= LEAKED_SHARE * len(kept):
        found.append(Hit(kind=LEAK, pattern="answer-repeats-the-prompt", severity="high"))
    return found


def foreign_links(answer: str, sources: Sequence[str]) -> list[Link]:
    """Markdown and HTML links and images whose host stands in none of the sources: high where a browser fetches them unasked or they
    carry data, else low."""
    if "://" not in answer:
        return []
    known = {host.lower() for text in sources for host in _HOST.findall(text)}
    found = []
    for pattern in (_MARKDOWN, _REFERENCE, _HTML):
        for match in compiled(pattern).finditer(answer):
            mark, url = match.group(1).lower(), match.group(2)
            host = _HOST.match(url)
            if host is None or host.group(1).lower() in known:
                continue
            fetched = mark in ("!", "img", "iframe", "script", "link")
            carries = bool(_CARRIES.search(url.split("://", 1)[1]))
            severity = "high" if fetched else "medium" if carries else "low"
            name = "image" if fetched else "link-with-data" if carries else "link"
            found.append(Link(url, Hit(kind=FOREIGN_LINK, pattern=name, severity=severity)))
    return found


def without_links(answer: str, links: Sequence[Link]) -> str:
    """The answer with the addresses of some links taken out."""
    for link in sorted(links, key=lambda one: -len(one.url)):
        answer = answer.replace(link.url, REMOVED)
    return answer
