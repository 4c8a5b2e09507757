"""Word documents as Markdown: headings, lists, code, quotes, tables, links and footnotes, in the order of the text.

Reads the XML itself, because python-docx looks a paragraph's style up anew each time. Insertions of tracked changes are read,
deletions are not. Headers, footers, comments and text boxes are not read.
"""

import io
import posixpath
import re
import zipfile
from typing import Any

from data_jobs.extract.docx_markdown import Block, Run, cell_text, inline, joined
from data_jobs.extract.docx_styles import Look, Numbering, Style, Styles, W, look_of, numbering_of
from data_jobs.extract.part import Encrypted, Options, Part, Unreadable
from data_jobs.extract.zip import unpacked

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_MATH = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_STRICT = {
    b"http://purl.oclc.org/ooxml/wordprocessingml/main": W[1:-1].encode(),
    b"http://purl.oclc.org/ooxml/officeDocument/relationships": _R[1:-1].encode(),
}
# Around what is read as if they were not there; deletions and what was moved away are not among them.
_AROUND = {W + name for name in ("ins", "moveTo", "smartTag", "sdt", "sdtContent", "customXml", "fldSimple", "dir", "bdo")}
_SIGNS = {W + "tab": "\t", W + "ptab": "\t", W + "cr": "\n", W + "noBreakHyphen": "-"}
_NOTES = {W + "footnoteReference": "footnotes", W + "endnoteReference": "endnotes"}
_ITEM = re.compile(r"\d{1,4}[.)]|[a-zA-Z][.)]|[ivxlcIVXLC]{1,7}[.)]|\([a-z\d]{1,3}\)")
_LINK = re.compile(r'\s*HYPERLINK\s+"([^"]+)"')


def extract(data: bytes, options: Options = Options()) -> list[Part]:
    """One document. Its title is the document's property, else its first heading of the first level."""
    if data.startswith(_OLE):
        raise Encrypted("the file is an encrypted or pre-2007 Word document; save it as .docx without a password")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            reader = _Reader(archive)
            blocks = reader.blocks(reader.body)
    except (zipfile.BadZipFile, KeyError, ValueError, SyntaxError, NotImplementedError) as error:
        raise Unreadable(f"the file is no readable Word document ({error}); save it again as .docx") from None
    text = joined(blocks + reader.notes())
    heading = re.search(r"^# (.+)$", text, re.MULTILINE)
    title = reader.title or (heading.group(1) if heading else "")
    return [Part(text=text, title="" if title == "Word Document" else title)]


class _Reader:
    """One document's parts, and what is counted while it is read."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        main = next(iter(self._related("", "officeDocument").values()), "word/document.xml")
        document = self._xml(main)
        if document is None:
            raise KeyError(f"there is no {main}")
        self.body = document.find(W + "body")
        if self.body is None:
            raise ValueError("it has no body")
        self._links = self._related(main, "hyperlink")
        self._styles = Styles(self._xml(self._one(main, "styles")))
        self._numbering = Numbering(self._xml(self._one(main, "numbering")))
        self._notes_of = {kind: self._xml(self._one(main, kind)) for kind in ("footnotes", "endnotes")}
        self._noted: list[tuple[str, str]] = []
        self._carried: list[Run] = []
        core = self._xml(self._one("", "core-properties"))
        self.title = " ".join((core.findtext(_DC + "title") or "").split()) if core is not None else ""

    def _related(self, source: str, kind: str) -> dict[str, str]:
        """Targets of a part's relationships of a kind, by id; inside the archive as member names."""
        folder, name = posixpath.split(source)
        root = self._xml(posixpath.join(folder, "_rels", name + ".rels"))
        found = {}
        for one in root if root is not None else ():
            if str(one.get("Type", "")).endswith("/" + kind):
                target = one.get("Target", "")
                inside = one.get("TargetMode") != "External"
                found[one.get("Id", "")] = posixpath.normpath(posixpath.join("/", folder, target))[1:] if inside else target
        return found

    def _one(self, source: str, kind: str) -> str:
        return next(iter(self._related(source, kind).values()), "")

    def _xml(self, name: str) -> Any:
        """A member's root element; None when there is no such member. No entity is resolved and no type declaration allowed."""
        from lxml import etree

        try:
            member = self._archive.getinfo(name)
        except KeyError:
            return None
        data = unpacked(self._archive, member)
        for strict, usual in _STRICT.items():
            data = data.replace(strict, usual)
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True, remove_pis=True)
        root = etree.fromstring(data, parser)
        if root.getroottree().docinfo.doctype:
            raise ValueError(f"{name} has a document type declaration, which Word never writes")
        return root

    def blocks(self, parent: Any) -> list[Block]:
        found: list[Block] = []
        for element in parent:
            if element.tag == W + "p":
                found += self._paragraph(element)
            elif element.tag == W + "tbl":
                found += self._table(element)
            elif element.tag in _AROUND:
                found += self.blocks(element)
        return found

    def notes(self) -> list[Block]:
        """The foot- and endnotes that the text referred to, in that order."""
        found = []
        for mark, (kind, id) in enumerate(self._noted, 1):
            root = self._notes_of[kind]
            note = next((one for one in root if one.get(W + "id") == id), None) if root is not None else None
            text = " ".join(block.text for block in self.blocks(note)) if note is not None else ""
            found.append(Block("", f"[^{mark}]: {text.strip()}", False))
        return found

    def _paragraph(self, element: Any) -> list[Block]:
        properties = element.find(W + "pPr")
        id = self._styles.default
        if properties is not None:
            named = properties.find(W + "pStyle")
            id = named.get(W + "val", "") if named is not None else id
        style = self._styles[id]
        number, depth = numbering_of(properties)
        mark, deep = (
            self._numbering.next(number or style.number, style.depth if depth is None else depth, id)
            if (number or style.number) not in ("", "0")
            else ("", 0)
        )
        runs = [*self._carried, *self._runs(element, "")]
        # A paragraph whose end was deleted goes on in the next one.
        self._carried = runs if properties is not None and properties.find(f"{W}rPr/{W}del") is not None else []
        if self._carried:
            return []
        text = "".join(run.text for run in runs)
        if not mark and not style.level and not self._styles.plain_is_monospaced:
            if style.code:
                return [Block("code", text.rstrip(), style.aside)]
            if text.strip() and not style.look.bold and all(run.look.code and not run.link for run in runs if run.text.strip()):
                return [Block("monospaced", text.rstrip(), style.aside)]
        if not text.strip():
            return []
        return [self._said(style, runs, mark, deep)]

    def _said(self, style: Style, runs: list[Run], mark: str, depth: int) -> Block:
        if style.level:
            words = " ".join(inline([run._replace(look=Look(code=run.look.code)) for run in runs]).split())
            return Block("", f"{'#' * style.level} {mark + ' ' if mark and mark != '•' else ''}{words}", style.aside)
        words = inline(
            [run._replace(look=Look(bold=style.look.bold).under(run.look)) for run in runs] if style.look.bold else runs
        )
        if not mark and style.listed:
            mark = "•" if style.listed == "bullet" else "1."
        if mark == "•" or _ITEM.fullmatch(mark):
            indent = "   " * depth
            return Block("item", f"{indent}{'-' if mark == '•' else mark} " + words.replace("\n", f"\n{indent}  "), style.aside)
        return Block("", f"{mark} {words}" if mark else words, style.aside)

    def _runs(self, parent: Any, link: str) -> list[Run]:
        """The runs of a paragraph, or of what stands around some of them."""
        found: list[Run] = []
        fields: list[str] = []
        for element in parent:
            tag = element.tag
            if tag == W + "r":
                for sign in element.iter(W + "fldChar", W + "instrText"):
                    _follow(fields, sign)
                target = next((one[1] for one in map(_LINK.match, fields) if one), link)
                run = self._run(element, target)
                if run.text:
                    found.append(run)
            elif tag == W + "hyperlink":
                found += self._runs(element, self._links.get(element.get(_R + "id", ""), link))
            elif tag in _AROUND:
                named = _LINK.match(element.get(W + "instr", ""))
                found += self._runs(element, named[1] if named else link)
            elif tag in (_MATH + "oMath", _MATH + "oMathPara"):
                found.append(Run("".join(element.itertext(_MATH + "t")), Look()))
        return found

    def _run(self, element: Any, link: str) -> Run:
        properties = element.find(W + "rPr")
        look = Look()
        if properties is not None:
            if properties.find(W + "vanish") is not None:
                return Run("", look)
            named = properties.find(W + "rStyle")
            look = look_of(properties)
            if named is not None:
                look = self._styles[named.get(W + "val", "")].look.under(look)
        text = ""
        for sign in element:
            if sign.tag == W + "t":
                text += sign.text or ""
            elif sign.tag == W + "br":
                text += "\n" if sign.get(W + "type", "textWrapping") == "textWrapping" else ""
            elif sign.tag in _NOTES:
                self._noted.append((_NOTES[sign.tag], sign.get(W + "id", "")))
                text += f"[^{len(self._noted)}]"
                look = Look()
            else:
                text += _SIGNS.get(sign.tag, "")
        return Run(text, look, link)

    def _table(self, table: Any) -> list[Block]:
        """A Markdown table, its first row as the header; a table of one cell is only a frame."""
        rows = []
        for row in _inside(table, W + "tr"):
            if row.find(f"{W}trPr/{W}del") is not None:
                continue
            cells: list[list[Block]] = []
            for cell in _inside(row, W + "tc"):
                span = cell.find(f"{W}tcPr/{W}gridSpan")
                wide = span.get(W + "val", "1") if span is not None else "1"
                merged = cell.find(f"{W}tcPr/{W}vMerge")
                goes_on = merged is not None and merged.get(W + "val") != "restart"
                cells.append([] if goes_on else self.blocks(cell))
                cells += [[]] * (min(int(wide), 64) - 1 if wide.isdigit() else 0)
            rows.append(cells)
        if len(rows) == 1 and len(rows[0]) == 1:
            return rows[0][0]
        rows[:1] = [[[one._replace(text=one.text.strip("*")) for one in cell] for cell in cells] for cells in rows[:1]]
        lines = ["| " + " | ".join(map(cell_text, cells)) + " |" for cells in rows]
        if any(line.strip("| ") for line in lines):
            return [Block("", "\n".join([lines[0], "|" + "---|" * max(map(len, rows)), *lines[1:]]), False)]
        return []


def _inside(parent: Any, tag: str) -> "list[Any]":
    """Children with that tag, also those in what counts as transparent."""
    found = []
    for element in parent:
        found += [element] if element.tag == tag else _inside(element, tag) if element.tag in _AROUND else []
    return found


def _follow(fields: list[str], sign: Any) -> None:
    """Keeps the instructions of the fields that are open."""
    kind = sign.get(W + "fldCharType")
    if kind == "begin":
        fields.append("")
    elif kind == "end" and fields:
        fields.pop()
    elif kind is None and fields:
        fields[-1] += sign.text or ""
