"""HTML through trafilatura: the page's own text as Markdown; navigation, footers and scripts are left out."""

from data_jobs.extract.encoding import decode
from data_jobs.extract.part import Options, Part, Unreadable


def extract(data: bytes, options: Options = Options()) -> list[Part]:
    """One document. A page too small for trafilatura to tell text from frame gives all its visible text."""
    import trafilatura
    from lxml import etree, html

    page = decode(data)
    try:
        tree = html.document_fromstring(page.encode("utf-8"), parser=html.HTMLParser(encoding="utf-8"))
    except (etree.ParserError, ValueError) as error:
        raise Unreadable(f"the page cannot be parsed ({error}); open and save it again in a browser") from None
    title = " ".join((tree.findtext(".//title") or "").split())
    text = trafilatura.extract(page, output_format="markdown", include_tables=True, include_comments=False, include_links=False)
    if text:
        return [Part(text=text, title=title)]
    for unseen in tree.xpath("//script|//style|//nav|//footer|//head|//noscript"):
        unseen.drop_tree()
    lines = (" ".join(line.split()) for line in tree.text_content().splitlines())
    return [Part(text="\n".join(line for line in lines if line), title=title)]
