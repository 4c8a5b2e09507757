"""The tokenizer as llama.cpp wants it, from ``tokenizer.json``: tokens with their kinds, merges or scores, and the name of the split.

A wrong name of the split (``tokenizer.ggml.pre``) changes tokenisation without a word, so a split that is not known by its exact pattern
is refused, and ``parity`` compares token ids on a text of many kinds.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from gguf import GGUFWriter, TokenType

from cluster.errors import InvalidInput, NotFound

_CASES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_WORDS = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}"
SPLITS = {
    _CASES + r"\p{N}" + _REST: "qwen2",
    _CASES + r"\p{N}{1,3}" + _REST: "llama-bpe",
    _WORDS + r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+": "tekken",
}
"""Pattern of the pre-tokenizer → llama.cpp's name for it (Qwen 2 and 3; Llama 3; Mistral from Nemo on)."""


class Vocabulary(NamedTuple):
    """``model`` is "gpt2" (byte-level BPE, with merges) or "llama" (SentencePiece, with scores)."""

    model: str
    pre: str
    tokens: list[str]
    kinds: list[TokenType]
    merges: list[str] | None
    scores: list[float] | None


def read_vocabulary(base: Path, size: int) -> Vocabulary:
    """The vocabulary of ``base``, padded with unused tokens to ``size`` (the rows of the embedding).

    Raises NotFound without ``tokenizer.json``, InvalidInput for a kind of tokenizer that is not known.
    """
    file = base / "tokenizer.json"
    if not file.is_file():
        raise NotFound(f"Base '{base}' has no tokenizer.json; save its fast tokenizer there (tokenizer.save_pretrained).")
    value = json.loads(file.read_text(encoding="utf-8"))
    model = value["model"]
    if model.get("type") != "BPE":
        raise InvalidInput(
            f"The tokenizer of base '{base}' is of type {model.get('type')}; only BPE is known; use --form merged."
        )
    ids: dict[int, str] = {number: text for text, number in model["vocab"].items()}
    kinds: dict[int, TokenType] = {}
    for added in value.get("added_tokens", []):
        ids[added["id"]] = added["content"]
        kinds[added["id"]] = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
    if max(ids) >= size:
        raise InvalidInput(f"The tokenizer of base '{base}' has ids up to {max(ids)}, its embedding only {size} rows.")
    merges = [tuple(one.split(" ", 1)) if isinstance(one, str) else tuple(one) for one in model["merges"]]
    pieces = bool(model.get("byte_fallback"))
    pre = "default" if pieces else _split_name(value, base)
    if pieces:
        kinds |= {number: TokenType.BYTE for number, text in ids.items() if len(text) == 6 and text.startswith("<0x")}
        kinds |= {ids_of: TokenType.UNKNOWN for ids_of, text in ids.items() if text == model.get("unk_token")}
    tokens = [ids.get(number, f"[PAD{number}]") for number in range(size)]
    types = [kinds.get(number, TokenType.NORMAL if number in ids else TokenType.UNUSED) for number in range(size)]
    if not pieces:
        return Vocabulary("gpt2", pre, tokens, types, [f"{_spaced(left)} {_spaced(right)}" for left, right in merges], None)
    return Vocabulary("llama", pre, tokens, types, None, _scores(tokens, types, merges))


def _spaced(part: str) -> str:
    return part.replace(" ", "Ġ")


def _scores(tokens: list[str], types: list[TokenType], merges: list[tuple[str, ...]]) -> list[float]:
    """SentencePiece joins the pair with the best score, BPE the pair of the first merge: minus the merge's place is such a score."""
    place: dict[str, float] = {}
    for at, pair in enumerate(merges):
        place.setdefault("".join(pair), -float(at))
    last = -float(len(merges)) - 1
    return [place.get(text, last) if kind is TokenType.NORMAL else 0.0 for text, kind in zip(tokens, types, strict=True)]


def _split_name(value: dict[str, Any], base: Path) -> str:
    outer = value.get("pre_tokenizer") or {}
    parts = outer.get("pretokenizers", [outer])
    patterns = [part["pattern"].get("Regex", "") for part in parts if part.get("type") == "Split"]
    if not patterns and any(part.get("type") == "ByteLevel" and part.get("use_regex", True) for part in parts):
        return "gpt-2"
    if len(patterns) == 1 and patterns[0] in SPLITS:
        return SPLITS[patterns[0]]
    raise InvalidInput(
        f"The tokenizer of base '{base}' splits text in a way that has no known name in llama.cpp ({' | '.join(patterns)[:80]}); export "
        "with --form merged and convert that with llama.cpp's convert_hf_to_gguf.py."
    )


def end_ids(base: Path, config: dict[str, Any], tokenizer: Any) -> list[int]:
    """The ids that end an answer, the tokenizer's own first; as the engine has them (``generation_config.json``, else the config)."""
    file = base / "generation_config.json"
    given = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id") if file.is_file() else None
    given = config.get("eos_token_id") if given is None else given
    listed = [] if given is None else [given] if isinstance(given, int) else list(given)
    own = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return list(dict.fromkeys([*own, *listed]))


def add_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary, tokenizer: Any, ends: list[int]) -> None:
    """Write it, with the special ids and the chat template. Whether a text gets a first or last token is what the tokenizer does."""
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.kinds)
    if vocabulary.merges is not None:
        writer.add_token_merges(vocabulary.merges)
    if vocabulary.scores is not None:
        writer.add_token_scores(vocabulary.scores)
    plain = tokenizer("a b").input_ids
    writer.add_add_bos_token(bool(plain) and plain[0] == tokenizer.bos_token_id and tokenizer.bos_token_id is not None)
    writer.add_add_eos_token(bool(plain) and plain[-1] == tokenizer.eos_token_id)
    if vocabulary.model == "llama":
        bare = tokenizer.convert_ids_to_tokens(tokenizer("a", add_special_tokens=False).input_ids)
        writer.add_add_space_prefix(bool(bare) and bare[0].startswith("▁"))
    for number, add in ((tokenizer.bos_token_id, writer.add_bos_token_id), (tokenizer.pad_token_id, writer.add_pad_token_id)):
        if number is not None:
            add(number)
    for number, add in zip(ends, (writer.add_eos_token_id, writer.add_eot_token_id, writer.add_eom_token_id), strict=False):
        add(number)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)
