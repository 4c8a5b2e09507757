"""Base plus LoRA as plain weights: read and merged one tensor at a time, and written as safetensors.

Memory is that of the largest tensor in float32, three times over, whatever the size of the base: shards are mapped, and files are
written front to back (the safetensors format is a length, a JSON header and the bytes in its order).
"""

import json
import math
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open

from cluster import base_model
from cluster.errors import InvalidInput, NotFound

_PREFIX = "base_model.model."
_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_BESIDE = ("generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt")
_TEMPLATES = ("chat_template.*",)


class Entry(NamedTuple):
    """Where a tensor lies, its element type as safetensors names it, and its shape."""

    file: Path
    dtype: str
    shape: tuple[int, ...]


def _header(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            found: dict[str, Any] = json.loads(stream.read(size))
    except (struct.error, ValueError, OverflowError, MemoryError):
        raise InvalidInput(f"{file} is not a whole safetensors file; fetch the base model again.") from None
    found.pop("__metadata__", None)
    end = max((entry["data_offsets"][1] for entry in found.values()), default=0)
    if file.stat().st_size < 8 + size + end:
        raise InvalidInput(f"{file} is cut short ({file.stat().st_size} bytes); fetch the base model again.")
    return found


def weight_index(base: Path) -> dict[str, Entry]:
    """Every tensor of a base model, by name, in the order of its files. Raises NotFound when there is none, InvalidInput on a type that
    holds no plain weights (a quantised base)."""
    found: dict[str, Entry] = {}
    for file in sorted(base.glob("*.safetensors")):
        for name, entry in _header(file).items():
            if entry["dtype"] not in _DTYPES:
                raise InvalidInput(
                    f"Tensor {name} of base '{base}' has type {entry['dtype']}; export needs unquantised weights "
                    f"({', '.join(_DTYPES)})."
                )
            found[name] = Entry(file, entry["dtype"], tuple(entry["shape"]))
    if not found:
        raise NotFound(
            f"There are no safetensors files in '{base}'; set the base of configs/models.yaml to a model with weights."
        )
    return found


def lora_scale(adapter: Path, ref: str) -> float:
    """The factor by which B·A is added, as PEFT defines it. Raises InvalidInput on adapters of a kind that Treadle does not train.

    alpha / r, or alpha / sqrt(r) for rank-stabilised LoRA (Kalajdzievski 2023, arXiv:2312.03732).
    """
    file = adapter / "adapter_config.json"
    if not file.is_file() or not (adapter / "adapter_model.safetensors").is_file():
        raise InvalidInput(f"Release '{ref}' holds no LoRA (adapter_config.json and adapter_model.safetensors).")
    config = json.loads(file.read_text(encoding="utf-8"))
    odd = [name for name in ("use_dora", "modules_to_save", "trainable_token_indices", "layer_replication") if config.get(name)]
    odd += ["fan_in_fan_out"] if config.get("fan_in_fan_out") else []
    odd += [f"bias={config['bias']}"] if config.get("bias", "none") != "none" or config.get("lora_bias") else []
    odd += [f"peft_type={config['peft_type']}"] if config.get("peft_type") != "LORA" else []
    odd += ["rank_pattern or alpha_pattern"] if config.get("rank_pattern") or config.get("alpha_pattern") else []
    if odd:
        raise InvalidInput(f"The adapter of release '{ref}' uses {', '.join(odd)}; only plain LoRA can be merged.")
    rank, alpha = int(config["r"]), float(config["lora_alpha"])
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


class Weights:
    """The weights of a release: those of ``base``, with the adapter's added where it has any."""

    def __init__(self, base: Path, adapter: Path, ref: str = "") -> None:
        """Raises InvalidInput in one sentence when adapter and base do not fit."""
        self.base, self.adapter, self.ref = base, adapter, ref or adapter.name
        self.config = base_model.config(str(base))
        if self.config.get("quantization_config"):
            raise InvalidInput(f"Base '{base}' is quantised; export needs the unquantised weights it was made from.")
        self.index = weight_index(base)
        self._scale = lora_scale(adapter, self.ref)
        self._lora = safe_open(adapter / "adapter_model.safetensors", "pt")
        self._open: dict[Path, Any] = {}
        self._adapted: dict[str, str] = {}
        for key in sorted(self._lora.keys()):
            module, _, part = key.removeprefix(_PREFIX).rpartition(".lora_")
            if part == "A.weight":
                self._adapted[f"{module}.weight"] = module
            elif part != "B.weight":
                raise InvalidInput(f"The adapter of release '{self.ref}' has a tensor {key} that is no LoRA of a linear layer.")
        self._check()

    def _check(self) -> None:
        if not self._adapted:
            raise InvalidInput(f"The adapter of release '{self.ref}' has no LoRA tensors; train the agent again.")
        tied = self.config.get("tie_word_embeddings", False)
        for name, module in self._adapted.items():
            if name not in self.index:
                raise InvalidInput(
                    f"The adapter of release '{self.ref}' changes module '{module}', which base '{self.base}' lacks; export with the "
                    "base it was trained on."
                )
            if tied and module in ("lm_head", "model.embed_tokens"):
                raise InvalidInput(f"The adapter of release '{self.ref}' changes '{module}', whose weights the base uses twice.")
            (rank, columns), (rows, other) = (tuple(self._lora.get_slice(_key(module, part)).get_shape()) for part in "AB")
            if (rows, columns) != self.index[name].shape or rank != other:
                raise InvalidInput(
                    f"The adapter of release '{self.ref}' has shape {rows}x{columns} at '{module}', and base '{self.base}' "
                    f"{'x'.join(map(str, self.index[name].shape))}; export with the base it was trained on."
                )

    @property
    def adapted(self) -> set[str]:
        """Names of the tensors that the adapter changes."""
        return set(self._adapted)

    def read(self, name: str) -> torch.Tensor:
        """One tensor: the base's own, or the sum in float32 where the adapter changes it."""
        file = self.index[name].file
        if file not in self._open:
            self._open[file] = safe_open(file, "pt")
        weight: torch.Tensor = self._open[file].get_tensor(name)
        if name not in self._adapted:
            return weight
        module = self._adapted[name]
        down, up = (self._lora.get_tensor(_key(module, part)).float() for part in "AB")
        return torch.addmm(weight.float(), up, down, alpha=self._scale)


def _key(module: str, part: str) -> str:
    return f"{_PREFIX}{module}.lora_{part}.weight"


def write_merged(
    weights: Weights, folder: Path, dtype: torch.dtype | None, heard: Callable[[float], None] = lambda _: None
) -> torch.dtype:
    """Write the merged model into ``folder``, in the base's shards, so that any loader of safetensors takes it.

    ``dtype`` None keeps the base's type. Returns the type written. ``heard`` is told the share that is done.
    """
    total = sum(math.prod(entry.shape) for entry in weights.index.values())
    written = 0.0
    kept = _DTYPES[next(iter(weights.index.values())).dtype]
    for file in sorted({entry.file for entry in weights.index.values()}):
        inside = {name: entry for name, entry in weights.index.items() if entry.file == file}
        wanted = {name: dtype or _DTYPES[entry.dtype] for name, entry in inside.items()}
        with (folder / file.name).open("wb") as stream:
            stream.write(_new_header(inside, wanted))
            for name, entry in inside.items():
                tensor = weights.read(name).to(wanted[name]).contiguous()
                stream.write(
                    tensor.view(torch.uint8).numpy().data if tensor.dim() else tensor.reshape(1).view(torch.uint8).numpy().data
                )
                written += math.prod(entry.shape)
                heard(written / total)
    _copy_beside(weights, folder, dtype)
    return dtype or kept


def _new_header(inside: dict[str, Entry], wanted: dict[str, torch.dtype]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, entry in inside.items():
        size = math.prod(entry.shape) * wanted[name].itemsize
        header[name] = {"dtype": _CODES[wanted[name]], "shape": list(entry.shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _copy_beside(weights: Weights, folder: Path, dtype: torch.dtype | None) -> None:
    for pattern in _BESIDE + _TEMPLATES:
        for file in weights.base.glob(pattern):
            shutil.copyfile(file, folder / file.name)
    config = dict(weights.config)
    if dtype is not None:
        config.pop("torch_dtype", None)
        config["dtype"] = str(dtype).removeprefix("torch.")
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    index = weights.base / "model.safetensors.index.json"
    if index.is_file():
        value = json.loads(index.read_text(encoding="utf-8"))
        sizes = [(math.prod(entry.shape), _DTYPES[entry.dtype]) for entry in weights.index.values()]
        value["metadata"] = {"total_size": sum(count * (dtype or own).itemsize for count, own in sizes)}
        (folder / index.name).write_text(json.dumps(value, indent=1), encoding="utf-8")
