"""A second base model beside the starter: other weights, another vocabulary and another chat template, so nothing of one fits the other."""

import json
import shutil
from pathlib import Path

TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['role'] }} said: {{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def other_base(starter: str, place: Path, seed: int = 7) -> Path:
    """A model directory made of the starter's: every token but the special ones has another id, and the weights are moved at random."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(starter, place)
    (place / "chat_template.jinja").write_text(TEMPLATE)
    file = place / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    special = len(tokenizer["added_tokens"])
    ids = len(tokenizer["model"]["vocab"]) - special
    vocabulary = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {
        token: at if at < special else special + (at - special + 97) % ids for token, at in vocabulary.items()
    }
    file.write_text(json.dumps(tokenizer))
    torch.manual_seed(seed)
    weights = load_file(place / "model.safetensors")
    moved = {name: one + 0.3 * one.float().std().nan_to_num() * torch.randn_like(one) for name, one in weights.items()}
    save_file({name: one.to(weights[name].dtype) for name, one in moved.items()}, place / "model.safetensors", {"format": "pt"})
    return place
