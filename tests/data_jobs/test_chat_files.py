"""Files of conversations, whole and broken."""

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.domain.data_recipes import ConversationsRecipe
from data_jobs import chat_files
from data_jobs.chat_files import conversations
from data_jobs.chat_formats import Thread, Unusable

PAIR = {"question": "q", "answer": "a"}


def read(path: Path, **changes: Any) -> list[tuple[int, str, Any]]:
    recipe = ConversationsRecipe(**{"paths": ("x",), "dataset": "d", "agent": "property", **changes})
    return [(number, unit, _said(one)) for number, unit, one in conversations(path, recipe)]


def _said(one: Thread | Unusable) -> Any:
    return one.reason if isinstance(one, Unusable) else [(said.role[0], said.content) for said in one.messages]


WHOLE = [("u", "q"), ("a", "a")]


@pytest.mark.parametrize(
    "value",
    [
        [PAIR, 5, PAIR],
        {"data": [PAIR, 5, PAIR]},
        {"conversations": [{"messages": [{"role": "user", "content": "q"}, {"role": "bot", "content": "a"}]}, 5, PAIR]},
    ],
)
def test_a_json_file_is_a_list_bare_or_wrapped(files: Any, value: Any) -> None:
    path = files.raw("a.json", json.dumps(value))
    assert read(path) == [(1, "item", WHOLE), (2, "item", "corrupt"), (3, "item", WHOLE)]


def test_a_json_file_may_be_one_conversation_or_one_log(files: Any) -> None:
    one = files.raw("a.json", json.dumps({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}))
    assert read(one) == [(1, "item", WHOLE)]
    messages = [
        {"id": 1, "date": "2026-03-01T09:00:00", "from": "Kim", "text": "q"},
        {"id": 2, "date": "2026-03-01T09:01:00", "from": "Desk", "text": ["a", {"type": "bold", "text": "!"}]},
        {"id": 3, "date": "2026-03-02T09:00:00", "from": "Kim", "text": "later"},
    ]
    log = files.raw("log.json", json.dumps({"name": "Desk", "messages": messages}))
    assert read(log, assistant_authors=("Desk",)) == [(1, "item", [("u", "q"), ("a", "a\n!")]), (3, "item", [("u", "later")])]


def test_lines_of_a_log_wait_for_their_files_end(files: Any) -> None:
    lines = [{"role": "user", "content": "q", "thread_id": 1}, PAIR, {"role": "assistant", "content": "a", "thread_id": 1}]
    path = files.raw("a.jsonl", "\n".join(map(json.dumps, lines)))
    assert read(path) == [(2, "line", WHOLE), (1, "line", WHOLE)]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_csv_by_row_and_by_message(files: Any, separator: str) -> None:
    pairs = files.raw("a.csv", 'Question;Answer;Note\nq;a;\n\n"two\nlines";a;x\nq\n'.replace(";", separator))
    assert read(pairs) == [(2, "line", WHOLE), (4, "line", [("u", "two\nlines"), ("a", "a")]), (6, "line", "corrupt")]
    log = (
        "Conversation ID;Author;Message;Time\n7;user;q;2026-03-01 09:00\n8;user;x;2026-03-01 09:00\n7;agent;a;2026-03-01 09:05\n"
    )
    assert read(files.raw("b.tsv", log.replace(";", separator))) == [(2, "line", WHOLE), (3, "line", [("u", "x")])]


def test_own_column_names_and_old_encodings(files: Any) -> None:
    path = files.raw("a.csv", "Frage;Antwort\nq;ä\n".encode("cp1252"))
    assert read(path, fields={"question": "Frage", "answer": "Antwort"}) == [(2, "line", [("u", "q"), ("a", "ä")])]


def test_formulas_stay_text_and_an_open_quote_costs_its_own_end(files: Any) -> None:
    path = files.raw("a.csv", 'question,answer\n=1+1,@SUM(A1)\nq,a\nq,"open\nq,a\n')
    assert read(path) == [(2, "line", [("u", "=1+1"), ("a", "@SUM(A1)")]), (3, "line", WHOLE), (4, "line", "corrupt")]


def test_a_line_without_end_is_skipped_and_the_next_one_read(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_files, "_LONGEST_LINE", 100)
    good = json.dumps(PAIR)
    path = files.raw("a.jsonl", f"{good}\n{'x' * 1000}\n{good}\n{'y' * 100}z")
    assert read(path) == [(1, "line", WHOLE), (2, "line", "too_large"), (3, "line", WHOLE), (4, "line", "too_large")]


@pytest.mark.parametrize("bad", ["[" * 100_000, '{"question": NaN}', '"\ud800"', "{", "nul\x00"])
def test_broken_json_costs_its_line(files: Any, bad: str) -> None:
    path = files.raw(
        "a.jsonl", f"{json.dumps(PAIR)}\n".encode() + bad.encode("utf-8", "surrogatepass") + f"\n{json.dumps(PAIR)}".encode()
    )
    assert read(path) == [(1, "line", WHOLE), (2, "line", "corrupt"), (3, "line", WHOLE)]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.txt", "hi", "unknown_format"),
        ("a.csv", "a,b\n1,2\n", "unknown_format"),
        ("a.csv", "", "unknown_format"),
        ("a.json", "[{", "corrupt"),
        ("a.json", b"%PDF-1.7", "not_text"),
        ("a.json", b"PK\x03\x04", "not_text"),
    ],
)
def test_a_file_that_is_none_is_refused_whole(files: Any, name: str, data: Any, reason: str) -> None:
    with pytest.raises(Unusable) as caught:
        read(files.raw(name, data))
    assert caught.value.reason == reason


def test_a_file_too_large_to_hold_says_what_to_do(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_files, "_LARGEST_FILE", 10)
    with pytest.raises(Unusable, match="write it as JSON lines"):
        read(files.raw("a.json", json.dumps([PAIR])))
