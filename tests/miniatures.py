"""Random-weight miniatures of the architectures that people bring: each with its own kind of tokenizer, chat template and shape.

Weights are drawn wide enough that the next token is mostly decided; a model that is undecided everywhere could not show drift.
"""

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from train_jobs.starter_tokenizer import SPLIT

ARCHITECTURES = ("qwen3", "llama3", "gemma3", "mistral")

_TEXTS = [
    f"Find files over {size} MB in {folder} and list them. find {folder} -size +{size}M. Don't ask; naïve café, 12.5% of {size}!"
    for size in range(1, 99)
    for folder in ("/var/log", "/tmp", "/srv", "/home/ann")
]
_SPECIALS = {
    "qwen3": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "llama3": ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    "gemma3": ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"],
    "mistral": ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"],
}
_NAMES: dict[str, dict[str, str | None]] = {  # beginning, end of an answer, padding
    "qwen3": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
    "llama3": {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "pad_token": "<|end_of_text|>"},
    "gemma3": {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"},
    "mistral": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"},
}
TEMPLATES = {
    "qwen3": (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "llama3": (
        "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
        "{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
    ),
    "gemma3": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' %}"
        "{% set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}"
        "{% for message in rest %}<start_of_turn>{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
        "{{ first if loop.first else '' }}{{ message['content'] | trim }}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
    ),
    "mistral": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' %}"
        "{% set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}"
        "{% for message in rest %}{% if message['role'] == 'user' %}[INST] {{ first if loop.first else '' }}"
        "{{ message['content'] }}[/INST]{% else %} {{ message['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
    ),
}
_LLAMA3_SPLIT = SPLIT.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


def _byte_level(split: str, specials: list[str], size: int) -> Tokenizer:
    core = Tokenizer(models.BPE())
    parts = [
        pre_tokenizers.Split(Regex(split), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
    core.pre_tokenizer = pre_tokenizers.Sequence(parts)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        _TEXTS, trainers.BpeTrainer(vocab_size=size, special_tokens=specials, initial_alphabet=alphabet, show_progress=False)
    )
    return core


def _pieces(specials: list[str], size: int, prefix: bool) -> Tokenizer:
    """A tokenizer of SentencePiece's kind: blanks are "▁", and what the vocabulary lacks is written as bytes."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always" if prefix else "never")
    learner.train_from_iterator(_TEXTS, trainers.BpeTrainer(vocab_size=size, show_progress=False))
    learned = json.loads(learner.to_str())["model"]
    words = [*specials, *(f"<0x{byte:02X}>" for byte in range(256)), *sorted(learned["vocab"], key=learned["vocab"].get)]
    vocabulary = {word: number for number, word in enumerate(words)}
    merges = [tuple(one) if isinstance(one, list) else tuple(one.split(" ")) for one in learned["merges"]]
    core = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    steps = [normalizers.Prepend("▁")] if prefix else []
    core.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    blanks = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    core.decoder = decoders.Sequence([*blanks, decoders.Strip(" ", 1, 0)] if prefix else blanks)
    core.add_special_tokens(specials)
    return core


def tokenizer_of(kind: str, size: int = 700) -> PreTrainedTokenizerFast:
    """The miniature's tokenizer, with its chat template."""
    specials = _SPECIALS[kind]
    if kind in ("qwen3", "llama3"):
        core = _byte_level(SPLIT if kind == "qwen3" else _LLAMA3_SPLIT, specials, size)
    else:
        core = _pieces(specials, size, prefix=kind == "mistral")
    first = _NAMES[kind].get("bos_token")
    if first:
        core.post_processor = processors.TemplateProcessing(
            single=f"{first} $A", pair=f"{first} $A $B", special_tokens=[(first, core.token_to_id(first))]
        )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **_NAMES[kind], clean_up_tokenization_spaces=False)
    tokenizer.chat_template = TEMPLATES[kind]
    return tokenizer


def make_miniature(kind: str, folder: Path, seed: int = 0, hidden_size: int = 64) -> Path:
    """A model of random weights with its tokenizer in ``folder``; about a tenth of a million parameters."""
    tokenizer = tokenizer_of(kind)
    tokenizer.save_pretrained(folder)
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden_size,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": 512,
        "initializer_range": 0.12,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(seed)
    model: Any
    if kind == "qwen3":
        model = Qwen3ForCausalLM(Qwen3Config(**shape, tie_word_embeddings=True))
    elif kind == "llama3":
        stretched = {
            "rope_type": "llama3",
            "rope_theta": 500_000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
        }
        stretched["original_max_position_embeddings"] = 64
        model = LlamaForCausalLM(LlamaConfig(**shape, rope_parameters=stretched, tie_word_embeddings=False))
    elif kind == "gemma3":
        shape |= {"num_hidden_layers": 6, "sliding_window": 16, "query_pre_attn_scalar": 32}
        model = Gemma3ForCausalLM(Gemma3TextConfig(**shape))
        model.generation_config.eos_token_id = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<end_of_turn>")]
    else:
        model = MistralForCausalLM(MistralConfig(**shape, sliding_window=None, tie_word_embeddings=False))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("norm.weight"):  # norms of one (or nought) would hide a wrong convention
                weight.add_(torch.randn_like(weight) * 0.1)
    model.save_pretrained(folder)
    return folder


def make_adapter(base: Path, folder: Path, seed: int = 1, std: float = 0.05) -> Path:
    """A LoRA of random weights in every linear layer, strong enough to change most answers."""
    torch.manual_seed(seed)
    config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM", base_model_name_or_path=str(base))
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=std)
    model.save_pretrained(folder)
    return folder
