"""How an answer crosses a process border: two lengths, a JSON header, and the texts as they are.

Texts in JSON would be escaped and read again character by character: of 100 MB that costs a second, this a tenth of it.
"""

import json
import struct
from typing import Any, BinaryIO

from data_jobs.extract.part import Part

BLOCK = 1 << 20
"""Bytes read at a time, and the size of the pipes."""
LENGTHS = struct.Struct(">QQ")


def framed(answer: dict[str, Any]) -> list[bytes]:
    """``{"parts": [Part, …]}`` or ``{"reason", "detail"}`` as pieces to be written one after another."""
    texts = [_bytes(part.text) for part in answer.get("parts", ())]
    if texts:
        header = [
            (len(text), part.title, part.name, part.problem, part.reason, part.media_type, part.meta)
            for text, part in zip(texts, answer["parts"], strict=True)
        ]
        answer = {"parts": header}
    head = _bytes(json.dumps(answer, ensure_ascii=False, default=str))
    return [LENGTHS.pack(len(head), sum(map(len, texts))) + head, *texts]


def received(pipe: BinaryIO) -> dict[str, Any] | None:
    """The next answer in the pipe; None when the pipe ended before its end. Raises ValueError on what is no answer."""
    lengths = pipe.read(LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        return None
    head_bytes, text_bytes = LENGTHS.unpack(lengths)
    head, texts = pipe.read(head_bytes), pipe.read(text_bytes)
    if len(head) < head_bytes or len(texts) < text_bytes:
        return None
    answer: dict[str, Any] = json.loads(_str(head))
    if "parts" in answer:
        place = 0
        for number, (size, *fields) in enumerate(answer["parts"]):
            answer["parts"][number] = Part(_str(texts[place : place + size]), *fields)
            place += size
    return answer


def length(beginning: bytes) -> int:
    """How long the whole answer is that begins like this; 0 while that cannot be told."""
    if len(beginning) < LENGTHS.size:
        return 0
    return LENGTHS.size + sum(LENGTHS.unpack(beginning[: LENGTHS.size]))


# A string of a JSON file may hold half of a surrogate pair; the wash takes it out.
def _bytes(text: str) -> bytes:
    return text.encode("utf-8", errors="surrogatepass")


def _str(data: bytes) -> str:
    return data.decode("utf-8", errors="surrogatepass")
