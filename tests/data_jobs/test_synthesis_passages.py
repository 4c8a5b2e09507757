"""Which passages, in what order, and where one begins."""

from collections.abc import Sequence

from cluster.domain.documents import Passage
from cluster.domain.users import Access
from data_jobs.synthesis_passages import chosen, in_turn

TEXT = "One sentence stands here. Another one goes on\nand on.\n\nA new block begins. It ends."


def passages(document: str, *cuts: tuple[int, int], text: str = TEXT) -> list[Passage]:
    return [
        Passage(id=f"{document}.{n}", document_id=document, corpus="c", number=n, text=text[a:b], start=a, end=b)
        for n, (a, b) in enumerate(cuts)
    ]


def starts(several: Sequence[Passage]) -> dict[int, bool]:
    return {one.passage.number: one.whole_start for one in chosen(several, 1, 7)[0]}


def test_a_start_is_whole_after_a_sentence_or_a_blank_line() -> None:
    second, block = TEXT.index("Another"), TEXT.index("A new")
    assert starts(passages("d", (0, second - 1), (second, block - 2), (block, len(TEXT)))) == {0: True, 1: True, 2: True}
    assert starts(passages("d", (0, 10), (11, 40))) == {0: True, 1: False}
    assert starts(passages("d", (0, block - 2), (second, len(TEXT)))) == {0: True, 1: True}  # they overlap
    assert starts(passages("d", (0, block - 2), (second + 8, len(TEXT)))) == {0: True, 1: False}
    assert (
        starts([*passages("a", (0, 25)), passages("b", (0, 5), (second, 60))[1]])[1] is False
    )  # its own document's is not there


def test_short_repeated_and_restricted_passages_are_left_out_and_counted() -> None:
    for_some = passages("c", (0, 40))[0].model_copy(update={"readers": Access(roles=("curator",))})
    several = [*passages("a", (0, 25), (0, 3)), *passages("b", (0, 25)), for_some]
    kept, skipped = chosen(several, 10, 7)
    assert [one.passage.id for one in kept] == ["a.0"]
    assert skipped == {"too_short": 1, "same_text": 1, "restricted": 1}


def test_documents_take_turns_and_the_seed_shuffles_inside_them() -> None:
    text = " ".join(f"Sentence number {n} of many." for n in range(40))
    cuts = [(n * 20, n * 20 + 20) for n in range(20)]
    several = [*passages("a", *cuts, text=text), *passages("b", *cuts[:2], text=text.upper())]
    orders = [[one.passage.id for one in chosen(several, 1, seed)[0]] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert [name[0] for name in orders[0][:4]] == ["a", "b", "a", "b"]
    assert sorted(orders[0]) == sorted(orders[2])
    assert in_turn([[1, 2, 3], [], [4]]) == [1, 4, 2, 3]
