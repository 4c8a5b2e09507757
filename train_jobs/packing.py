"""Rows of a step without padding: their tokens lie one after another in a single sequence, and attention keeps them apart.

Everything but attention works on each token for itself, so it never meets a pad token. For attention the tokens of each row are gathered
into a batch of their own, attended causally, and put back. A row sees exactly what it would see alone (block-diagonal attention), so a
packed step is the unpacked step: same rows, same loss, same gradient, up to rounding. The two answers of a preference pair share their
prompt: its tokens are there once, and both answers attend to it.

Works on models that mix tokens in their attention layers alone, and through transformers' attention interface. ``packs`` knows which.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers import AttentionInterface, PretrainedConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from train_jobs.examples import IGNORED

NAME = "treadle_packed"
_TESTED = frozenset({"qwen2", "qwen3", "llama", "mistral", "gemma3_text"})


def packs(config: PretrainedConfig) -> bool:
    """Whether a model of this architecture may be trained packed: those that a test has shown to give the unpacked loss."""
    return getattr(config.get_text_config(), "model_type", "") in _TESTED


class Packed(NamedTuple):
    """Which token stands where. ``rows``: indices of tokens, shape (sequences, longest), the end of shorter ones filled with 0;
    ``back``: for each token its place in the flattened ``rows``."""

    rows: torch.Tensor
    back: torch.Tensor


class Layout:
    """Collects sequences that may share a beginning; ``packed`` is what attention needs."""

    def __init__(self) -> None:
        self._sequences: list[list[range]] = []
        self.tokens = 0
        self.positions: list[int] = []

    def add(self, count: int, position: int = 0) -> range:
        """Places for ``count`` new tokens, the first of them at ``position`` of its sequence."""
        found = range(self.tokens, self.tokens + count)
        self.tokens += count
        self.positions += range(position, position + count)
        return found

    def sequence(self, *parts: range) -> None:
        """A sequence made of places, in order. A token's result is taken from the first sequence that it is part of."""
        self._sequences.append(list(parts))

    def packed(self) -> Packed:
        longest = max(sum(map(len, parts)) for parts in self._sequences)
        rows = torch.zeros(len(self._sequences), longest, dtype=torch.long)
        back = torch.full((self.tokens,), -1, dtype=torch.long)
        for number, parts in enumerate(self._sequences):
            start = 0
            for part in parts:
                rows[number, start : start + len(part)] = torch.arange(part.start, part.stop)
                if len(part) and back[part.start] < 0:
                    first = number * longest + start
                    back[part.start : part.stop] = torch.arange(first, first + len(part))
                start += len(part)
        return Packed(rows, back)


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    packed: Packed | None = None,
    sliding_window: int | None = None,
    **rest: Any,
) -> tuple[torch.Tensor, None]:
    """Attention for transformers' interface: query (1, heads, tokens, size) to (1, tokens, heads, size). Without ``packed`` it is SDPA."""
    if packed is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **rest)
    count, longest = packed.rows.shape
    places = packed.rows.view(-1)

    def rows_of(states: torch.Tensor) -> torch.Tensor:
        return states[0].transpose(0, 1).index_select(0, places).view(count, longest, states.shape[1], -1).transpose(1, 2)

    # A row's end is filled with some token, which no token before it sees: causality is all the mask there has to be.
    mask = None if sliding_window is None or longest <= sliding_window else _band(longest, sliding_window, query.device)
    out = torch.nn.functional.scaled_dot_product_attention(
        rows_of(query),
        rows_of(key),
        rows_of(value),
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=mask is None,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    flat = out.transpose(1, 2).reshape(count * longest, query.shape[1], -1)
    return flat.index_select(0, packed.back).unsqueeze(0), None


def _band(length: int, window: int, device: torch.device) -> torch.Tensor:
    """Causal, and no further back than the window: what a layer with sliding attention sees."""
    place = torch.arange(length, device=device)
    distance = place[:, None] - place[None, :]
    return (distance >= 0) & (distance < window)


AttentionInterface.register(NAME, attend)


def pack_rows(rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """SFT rows (``input_ids``, ``labels``) as one sequence: ``input_ids``, ``position_ids`` and ``labels`` (1, tokens), with ``rows`` and
    ``back`` of ``Packed``. The first token of a row is nobody's to predict."""
    layout = Layout()
    ids: list[int] = []
    labels: list[int] = []
    for row in rows:
        layout.sequence(layout.add(len(row["input_ids"])))
        ids += row["input_ids"]
        labels += [IGNORED, *row["labels"][1:]]
    return {**_tensors(layout, ids), "labels": torch.tensor([labels])}


def pack_pairs(pairs: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Preference pairs (``prompt_ids``, ``chosen_ids``, ``rejected_ids``) as one sequence of prompt, chosen, rejected for each.

    Beside ``pack_rows``'s tensors: ``predicting`` (n,) the places whose next token is an answer's, ``answer`` (n,) those tokens and
    ``side`` (n,) whose they are: pair number for chosen, number + pairs for rejected. Pairs whose two answers are the same (replay) have
    their answer once. ``ref_chosen_logps`` and ``ref_rejected_logps`` are taken over where they are given.
    """
    layout = Layout()
    ids: list[int] = []
    predicting: list[int] = []
    answer: list[int] = []
    side: list[int] = []
    for number, pair in enumerate(pairs):
        prompt = layout.add(len(pair["prompt_ids"]))
        ids += pair["prompt_ids"]
        sides = [("chosen_ids", number)]
        if pair["chosen_ids"] != pair["rejected_ids"]:
            sides.append(("rejected_ids", number + len(pairs)))
        for name, place in sides:
            said = pair[name]
            part = layout.add(len(said), len(prompt))
            layout.sequence(prompt, part)
            ids += said
            predicting += [prompt[-1], *part[:-1]]
            answer += said
            side += [place] * len(said)
    batch = {
        **_tensors(layout, ids),
        "predicting": torch.tensor(predicting),
        "answer": torch.tensor(answer),
        "side": torch.tensor(side),
        "true_pair": torch.tensor([pair["chosen_ids"] != pair["rejected_ids"] for pair in pairs]),
    }
    for name in ("ref_chosen_logps", "ref_rejected_logps"):
        if name in pairs[0]:
            batch[name] = torch.tensor([pair[name] for pair in pairs])
    return batch


def _tensors(layout: Layout, ids: list[int]) -> dict[str, torch.Tensor]:
    packed = layout.packed()
    positions = torch.tensor([layout.positions])
    return {"input_ids": torch.tensor([ids]), "position_ids": positions, "rows": packed.rows, "back": packed.back}


def logits_at(model: Any, batch: dict[str, torch.Tensor], places: torch.Tensor) -> torch.Tensor:
    """The model's logits (n, vocabulary) in float32 at these places of a packed batch; the output layer computes no others."""
    given = {name: batch[name] for name in ("input_ids", "position_ids")}
    out = model(**given, packed=Packed(batch["rows"], batch["back"]), logits_to_keep=places, use_cache=False)
    return out.logits[0].float()
