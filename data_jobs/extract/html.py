"""HTML through trafilatura: the page's own text as Markdown; navigation, footers and scripts are left out."""

import re
from typing import Any

from data_jobs.extract.encoding import decode
from data_jobs.extract.part import NotText, Options, Part, Unreadable

_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?([\w.:-]{1,40})", re.IGNORECASE)
_HEAD = 4096


def extract(data: bytes, options: Options = Options()) -> list[Part]:
    """One document. A page too small for trafilatura to tell text from frame gives all its visible text."""
    import trafilatura

    page = _decoded(data)
    tree = _parsed(page)
    title = " ".join((tree.findtext(".//title") or "").split())
    text = trafilatura.extract(tree, output_format="markdown", include_tables=True, include_comments=False, include_links=False)
    if text:
        return [Part(text=text, title=title)]
    tree = _parsed(page)  # trafilatura takes its tree apart
    for unseen in tree.xpath("//script|//style|//nav|//footer|//head|//noscript|//template"):
        unseen.drop_tree()
    lines = (" ".join(line.split()) for line in tree.text_content().splitlines())
    return [Part(text="\n".join(line for line in lines if line), title=title)]


def _decoded(data: bytes) -> str:
    """UTF-8 if it is that, whatever the page says; else as the page says, if that fits; else as any text."""
    named = _CHARSET.search(data[:_HEAD])
    if named and b"\x00" not in data:
        for name in ("utf-8-sig", named.group(1).decode("ascii")):
            try:
                return data.decode(name)
            except (UnicodeError, LookupError):
                continue
    try:
        return decode(data)
    except NotText as error:
        raise NotText(f"{error.message}, or save the page again in a browser") from None


def _parsed(page: str) -> Any:
    from lxml import etree, html

    parser = html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True)
    try:
        tree = html.document_fromstring(page.encode("utf-8", errors="replace"), parser=parser)
    except (etree.ParserError, ValueError) as error:
        raise Unreadable(f"the page cannot be parsed ({error}); open and save it again in a browser") from None
    if any("depth" in entry.message for entry in parser.error_log):
        # libxml2 stops there and gives what it has, which may be nothing of the text.
        raise Unreadable("the page's elements are nested deeper than a parser goes; open and save it again in a browser")
    return tree
