"""Lineage: what a release came from and what came of it, as a graph whose edges point the way things flow.

signals, documents → dataset → release ← base, recipe, index, parent
                               release → evaluation, gate → alias
"""

from typing import Literal

from cluster.domain.base import Frozen

NodeKind = Literal["signals", "documents", "dataset", "index", "base", "recipe", "release", "evaluation", "gate", "alias"]


class Node(Frozen):
    """One thing. ``name`` is what it is called elsewhere (a ref, a digest), ``detail`` a few words for people."""

    id: str
    kind: NodeKind
    name: str
    detail: str = ""


class Lineage(Frozen):
    """``edges`` are (from, to) ids; ``root`` is the release that was asked for."""

    root: str
    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]

    def node(self, id_: str) -> Node:
        """The node with this id."""
        return next(one for one in self.nodes if one.id == id_)

    def sources(self, id_: str) -> list[Node]:
        """What flows into a node, in the order of the edges."""
        return [self.node(start) for start, end in self.edges if end == id_]

    def results(self, id_: str) -> list[Node]:
        """What a node flows into, in the order of the edges."""
        return [self.node(end) for start, end in self.edges if start == id_]

    def tree(self) -> list[str]:
        """The graph as lines: the release, what came of it (→), and below it everything it came from (←)."""
        root = self.node(self.root)
        lines = [_words(root)]
        came, made = self.sources(self.root), [one for one in self.results(self.root) if one.kind != "release"]
        for place, one in enumerate([*made, *came]):
            last = place == len(made) + len(came) - 1
            lines += self._branch(one, "", last, place < len(made), {self.root})
        return lines

    def _branch(self, node: Node, indent: str, last: bool, forward: bool, seen: set[str]) -> list[str]:
        lines = [f"{indent}{'└' if last else '├'}─{'→' if forward else '←'} {_words(node)}"]
        if node.id in seen:
            return lines
        below = self.results(node.id) if forward else self.sources(node.id)
        inner = indent + ("    " if last else "│   ")
        for place, one in enumerate(below):
            lines += self._branch(one, inner, place == len(below) - 1, forward, seen | {node.id})
        return lines


def _words(node: Node) -> str:
    kind = "" if node.kind == "release" else f"{node.kind} "
    return f"{kind}{node.name}" + (f": {node.detail}" if node.detail else "")
