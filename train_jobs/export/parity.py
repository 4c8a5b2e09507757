"""Does the export say what the adapter says? The same prompts through both, logits and greedy texts compared; drift fails the export.

The reference is transformers' base with the adapter beside it (PEFT, not merged) in float32: what is served, without the rounding of any
engine. What the engine says is compared with it by the tests. A text that differs where the reference itself was undecided (its two
candidates nearer than ``margin``) is counted as a near tie and is no drift: rounding decides there, in every engine.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from cluster.domain.base import Frozen
from cluster.domain.prompts import as_dicts, prompt_ids
from cluster.errors import InvalidInput, JobFailed
from train_jobs.export import llamacpp
from train_jobs.export.merge import Weights

_SMALL = 50_000_000  # parameters
LIKELIEST = 64
"""Log-probabilities that llama.cpp is asked for at each place; what is beyond them counts as one token."""


class Tolerance(Frozen):
    """``kl``: mean divergence of the export's next-token distribution from the reference's, in nats. ``margin``: how much likelier (in
    nats) the reference's own token may be where the texts first differ."""

    kl: float
    margin: float


TOLERANCES = {
    "float32": Tolerance(kl=1e-6, margin=1e-3),
    "bfloat16": Tolerance(kl=1e-3, margin=0.2),
    "float16": Tolerance(kl=1e-4, margin=0.05),
    "f16": Tolerance(kl=1e-4, margin=0.05),
    "q8_0": Tolerance(kl=1e-2, margin=0.3),
    "q4_0": Tolerance(kl=0.5, margin=2.0),
}
"""What each form may drift. Q4_0 keeps 4 bits a weight: the bound only catches a broken file, and the figures say what was lost."""

TEXTS = (
    "The quick brown fox jumps over the lazy dog, doesn't it? WE'LL see: I'M sure you'd say they've won.",
    "3.14159 and 1,234,567.89 or 0x1F; 2026-11-21T18:30:50Z, +49 (0)30 123456; 100%, $5, 20 °C, ½ and x²",
    'def f(x):\n    return {\'a\': [1, 2, 3], "b": x ** 2}  # comment\n\n\tif x != 0 and y <= 3:\n\t\tprint(f"{x!r}")\n',
    "   leading, trailing   \n\n\n  and   inner     spaces\t\ttabs \r\n line",
    "Größe naïve café Ærø Łódź Ζεύς Привет мир שלום עולם مرحبا नमस्ते",
    "你好，世界。今日は良い天気ですね。안녕하세요 😀👍🏽 🇩🇪 👩‍👩‍👧 …—“quotes”",
    "ls -la /var/log | grep -E '^a{2,3}$' && find . -name '*.py' -size +10M; https://example.org/a?b=c&d=%20#e",
    '<p class="x">A &amp; B</p> {{ name }} [INST] user@example.org_snake_case-kebab CamelCase ALLCAPS',
)
"""Kinds of text on which the two tokenizers must agree, id by id."""


class Prompt(NamedTuple):
    """A prompt's messages and its ids as the endpoint sends them to the engine."""

    messages: list[dict[str, str]]
    ids: list[int]

    @property
    def short(self) -> str:
        """Its beginning, for a sentence."""
        text = " ".join(self.messages[-1]["content"].split())
        return text if len(text) <= 60 else f"{text[:57]}..."


class Answer(NamedTuple):
    """The reference's greedy answer: ids (the end included, if it came) and logits, float32 (len(ids), vocabulary)."""

    ids: list[int]
    logits: torch.Tensor


class Parity(Frozen):
    """How far an export is from the adapter. ``logits`` says what was compared; differences are absolute, ``kl`` in nats, means over all
    tokens. ``greedy_equal`` is the share of prompts with the same text, ``near_ties`` those that differ where nothing was decided."""

    form: str
    prompts: int
    tokens: int
    logits: str
    max_difference: float
    mean_difference: float
    kl: float
    greedy_equal: float
    near_ties: int
    texts_tokenised_alike: int | None = None
    tolerance: Tolerance


class _Tally:
    """Sums over the tokens of all prompts, and the first drift in words."""

    def __init__(self, form: str, tokenizer: Any) -> None:
        self.form, self.limit, self._tokenizer = form, TOLERANCES[form], tokenizer
        self.worst = self.total = self.kl = 0.0
        self.numbers = self.places = self.tokens = self.prompts = self.equal = self.near = 0
        self.drift: str | None = None

    def add(self, differences: torch.Tensor, divergence: float) -> None:
        self.worst = max(self.worst, float(differences.max()))
        self.total += float(differences.sum())
        self.numbers += differences.numel()
        self.kl += divergence
        self.places += 1

    def ended(self, prompt: Prompt, reference: Answer, said: Sequence[int]) -> None:
        """Note whether the answer is the reference's; ``said`` agrees with it up to its last id."""
        self.prompts += 1
        self.tokens += len(said)
        if list(said) == reference.ids:
            self.equal += 1
            return
        at = len(said) - 1
        if at < 0 or at >= len(reference.ids) or said[at] == reference.ids[at]:
            self._note(f"its answer to '{prompt.short}' has another length ({len(said)} tokens, not {len(reference.ids)})")
            return
        logits = reference.logits[at]
        gap = float(logits[reference.ids[at]] - logits[said[at]])
        if gap <= self.limit.margin:
            self.near += 1
            return
        words = [self._tokenizer.decode([one]) for one in (reference.ids[at], said[at])]
        self._note(
            f"its answer to '{prompt.short}' has {words[1]!r} where the adapter says {words[0]!r} (token {at + 1}), {gap:.3f} nats "
            f"likelier (allowed: {self.limit.margin})"
        )

    def _note(self, drift: str) -> None:
        self.drift = self.drift or drift

    def result(self, logits: str, alike: int | None = None) -> Parity:
        """Raises JobFailed when the export drifts."""
        kl = self.kl / max(self.places, 1)
        if not kl <= self.limit.kl:  # a number that is none, too
            self._note(f"its distribution is {kl:.2g} nats from the adapter's on average (allowed: {self.limit.kl})")
        if self.drift:
            raise JobFailed(
                f"The {self.form} export drifts from the adapter: {self.drift}; nothing was kept (--no-check keeps it)."
            )
        return Parity(
            form=self.form,
            prompts=self.prompts,
            tokens=self.tokens,
            logits=logits,
            max_difference=self.worst,
            mean_difference=self.total / max(self.numbers, 1),
            kl=max(kl, 0.0),
            greedy_equal=self.equal / max(self.prompts, 1),
            near_ties=self.near,
            texts_tokenised_alike=alike,
            tolerance=self.limit,
        )


def make_prompts(tokenizer: Any, rendered: Sequence[Any], room: int) -> list[Prompt]:
    """Prompts of at most ``room`` tokens. Raises InvalidInput when none is left, or the base has no chat template."""
    if not tokenizer.chat_template:
        raise InvalidInput("The base model has no chat template; save one with its tokenizer (chat_template.jinja).")
    made = [Prompt(as_dicts(messages), prompt_ids(tokenizer, messages)) for messages in rendered]
    kept = [prompt for prompt in made if len(prompt.ids) <= room]
    if not kept:
        raise InvalidInput(f"None of {len(made)} prompts fits in {room} tokens; the export cannot be compared (--no-check).")
    return kept


def check_memory(weights: Weights) -> None:
    """Raises InvalidInput when the model does not fit into this machine's free memory in float32."""
    needed = 4 * sum(math.prod(entry.shape) for entry in weights.index.values())
    free = psutil.virtual_memory().available
    if needed * 1.1 > free:
        raise InvalidInput(
            f"Comparing the export needs {needed / 2**30:.1f} GiB (the base in float32) and {free / 2**30:.1f} GiB are free; export on a "
            "bigger machine, or without the comparison (--no-check)."
        )


def _few_threads(weights: Weights) -> None:
    """One thread for a small model: threads that wait for one another cost it more than they bring (20 times on a busy machine)."""
    if sum(math.prod(entry.shape) for entry in weights.index.values()) < _SMALL:
        torch.set_num_threads(1)


def reference(
    weights: Weights, prompts: Sequence[Prompt], ends: Sequence[int], tokens: int, heard: Callable[[float], None] = lambda _: None
) -> list[Answer]:
    """The adapter's greedy answers of at most ``tokens`` tokens, each ended by one of ``ends``."""
    _few_threads(weights)
    base = AutoModelForCausalLM.from_pretrained(weights.base, dtype=torch.float32, attn_implementation="sdpa")
    model = PeftModel.from_pretrained(base, str(weights.adapter)).float().eval()
    answers: list[Answer] = []
    with torch.inference_mode():
        for prompt in prompts:
            ids: list[int] = []
            rows: list[torch.Tensor] = []
            given, cache = torch.tensor([prompt.ids]), None
            while len(ids) < tokens and not (ids and ids[-1] in ends):
                out = model(input_ids=given, past_key_values=cache, use_cache=True)
                rows.append(out.logits[0, -1].float())
                ids.append(int(rows[-1].argmax()))
                given, cache = torch.tensor([[ids[-1]]]), out.past_key_values
            answers.append(Answer(ids, torch.stack(rows)))
            heard(len(answers) / len(prompts))
    return answers


def compare_merged(folder: Path, dtype: str, tokenizer: Any, prompts: Sequence[Prompt], answers: Sequence[Answer]) -> Parity:
    """The merged weights in ``folder`` on the reference's own texts: equal choices at every place mean equal greedy texts."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").eval()
    tally = _Tally(dtype, tokenizer)
    with torch.inference_mode():
        for prompt, answer in zip(prompts, answers, strict=True):
            whole = torch.tensor([prompt.ids + answer.ids[:-1]])
            logits = model(input_ids=whole).logits[0, len(prompt.ids) - 1 :].float()
            chosen = logits.argmax(-1).tolist()
            same = next((at for at, (one, two) in enumerate(zip(chosen, answer.ids, strict=True)) if one != two), len(chosen))
            for at in range(len(chosen)):
                theirs, ours = answer.logits[at].log_softmax(-1), logits[at].log_softmax(-1)
                tally.add((logits[at] - answer.logits[at]).abs(), float((theirs.exp() * (theirs - ours)).sum()))
            tally.ended(prompt, answer, chosen[: same + 1])
    return tally.result("all logits of every place")


def compare_gguf(
    file: Path, kind: str, tokenizer: Any, prompts: Sequence[Prompt], answers: Sequence[Answer], tokens: int
) -> Parity:
    """The file in llama.cpp: token ids of many texts, the file's own chat template, then greedy answers from the endpoint's prompts.

    llama.cpp tells log-probabilities of the likeliest tokens, so these are compared, up to where the texts first differ.
    """
    texts = [*TEXTS, *(message["content"] for prompt in prompts for message in prompt.messages)]
    conversations = [prompt.messages for prompt in prompts]
    likeliest = min(LIKELIEST, answers[0].logits.shape[-1])
    said = llamacpp.ask(file, texts, conversations, [prompt.ids for prompt in prompts], tokens, likeliest)
    _check_tokens(kind, tokenizer, texts, said.tokens)
    for prompt, ids in zip(prompts, said.conversations, strict=True):
        if ids != prompt.ids:
            at = next((at for at, (one, two) in enumerate(zip(ids, prompt.ids, strict=False)) if one != two), 0)
            raise JobFailed(
                f"The {kind} export renders '{prompt.short}' otherwise than the endpoint, from token {at + 1} on "
                f"({tokenizer.decode(ids[at : at + 4])!r}, not {tokenizer.decode(prompt.ids[at : at + 4])!r}); nothing was kept."
            )
    tally = _Tally(kind, tokenizer)
    for prompt, answer, steps in zip(prompts, answers, said.answers, strict=True):
        spoken = [step.token for step in steps]
        pairs = zip(spoken, answer.ids, strict=False)
        same = next((at for at, (one, two) in enumerate(pairs) if one != two), min(len(spoken), len(answer.ids)))
        for step, row in zip(steps[: same + 1], answer.logits, strict=False):
            if step.logprobs is None:
                continue
            theirs = row.log_softmax(-1)
            near = torch.tensor(list(step.logprobs))
            ours = torch.tensor(list(step.logprobs.values()))
            tally.add((theirs[near] - ours).abs(), _divergence(theirs[near], ours))
        tally.ended(prompt, answer, spoken if same == len(answer.ids) else spoken[: same + 1])
    return tally.result(f"log-probabilities of the {likeliest} likeliest tokens", len(texts))


def _divergence(theirs: torch.Tensor, ours: torch.Tensor) -> float:
    """KL(theirs || ours) with everything outside the given tokens taken as one: a lower bound of the whole one."""
    rest = [max(1.0 - float(one.double().exp().sum()), 1e-9) for one in (theirs, ours)]
    inside = float((theirs.exp() * (theirs - ours)).sum())
    return inside + rest[0] * math.log(rest[0] / rest[1])


def _check_tokens(kind: str, tokenizer: Any, texts: Sequence[str], found: Sequence[list[int]]) -> None:
    for text, ids in zip(texts, found, strict=True):
        expected = list(tokenizer(text, add_special_tokens=False).input_ids)
        if ids != expected:
            at = next(
                (at for at, (one, two) in enumerate(zip(ids, expected, strict=False)) if one != two), min(len(ids), len(expected))
            )
            raise JobFailed(
                f"The {kind} export splits {text[:40]!r} otherwise than the tokenizer, from token {at + 1} on "
                f"({tokenizer.convert_ids_to_tokens(ids[at : at + 3])}, not {tokenizer.convert_ids_to_tokens(expected[at : at + 3])}); "
                "nothing was kept."
            )
