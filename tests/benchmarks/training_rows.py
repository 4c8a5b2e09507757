"""Rows for the benchmarks of training, from files of several forms, or generated."""

import json
import random
from pathlib import Path
from typing import Any

BASE = Path(__file__).parents[2] / "models" / "starter"
PROMPT = "Answer briefly."
_MOST_TOKENS = 440


def generated(count: int) -> list[dict[str, str]]:
    """Questions and answers of log-normal length."""
    pick = random.Random(3)
    nouns = "invoice printer router contract key meter lift window badge server".split()
    rows = []
    for _ in range(count):
        words = [f"{pick.choice(nouns)} {pick.randint(1, 999)}" for _ in range(min(60, int(pick.lognormvariate(1.8, 0.8)) + 1))]
        thing = pick.choice(words)
        rows.append({"instruction": f"{', '.join(words)}. Which one is meant by {thing}?", "output": f"It is {thing}."})
    return rows


def rows_of(path: str | None, kind: str, count: int) -> list[dict[str, Any]]:
    """Treadle's rows from a file of any of the known forms, or generated."""
    said = [json.loads(line) for line in Path(path).read_text().splitlines() if line.strip()] if path else generated(count)
    random.Random(5).shuffle(said)
    rows = []
    for one in said:
        if "kind" in one:
            rows.append(one)
        elif kind == "sft":
            rows.append({"kind": "sft", "question": one["instruction"], "answer": one["output"], "source": "benchmark"})
        elif "instruction" in one:
            worse = f"I do not know about {one['instruction'][:30]}."
            rows.append(
                {"kind": "dpo", "question": one["instruction"], "chosen": one["output"], "rejected": worse, "source": "b"}
            )
        else:
            question, _, chosen = one["chosen"].strip().rpartition("\n\nAssistant:")
            other, _, rejected = one["rejected"].strip().rpartition("\n\nAssistant:")
            if question == other and chosen.strip() and rejected.strip() and chosen != rejected:
                question = question.removeprefix("Human:").strip()
                rows.append(
                    {"kind": "dpo", "question": question, "chosen": chosen.strip(), "rejected": rejected.strip(), "source": "b"}
                )
    return fitting(rows, count)


def fitting(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Rows that both arms take whole."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(BASE)
    kept = []
    for row in rows:
        answers = [row[name] for name in ("answer", "chosen", "rejected") if name in row]
        if max(len(tokenizer(PROMPT + row["question"] + answer)["input_ids"]) for answer in answers) <= _MOST_TOKENS:
            kept.append(row)
        if len(kept) == count:
            break
    return kept
