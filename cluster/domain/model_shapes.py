"""The shape of a base model, as its ``config.json`` tells it: which matrices it has, and how many parameters.

Dense decoders of the Llama kind: RMS norms, rotary positions, grouped queries, a gated feed-forward part. A picture encoder beside the
text model (Gemma 3 from 4 B) is counted, because it lies in memory too. Mixtures of experts are not known here.
"""

from typing import Any, Literal, Mapping

from cluster.domain.base import Frozen
from cluster.errors import InvalidInput, near

Module = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
FAMILIES = ("gemma3", "gemma3_text", "llama", "mistral", "qwen2", "qwen3")
# What Gemma's configurations leave out where it is the default of their type.
_GEMMA: dict[str, Any] = {
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "vocab_size": 262_208,
}


class ModelShape(Frozen):
    """Sizes are numbers of elements. ``norms`` counts a layer's norms over the hidden size; ``vision`` the parameters that are no text
    model's."""

    family: str
    hidden: int
    feed_forward: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool
    norms: int = 2
    head_norms: bool = False
    biases: tuple[Module, ...] = ()
    vision: int = 0

    @property
    def query(self) -> int:
        """Elements of all query heads of a token."""
        return self.heads * self.head_dim

    @property
    def key_value(self) -> int:
        """Elements of all key heads (or value heads) of a token."""
        return self.kv_heads * self.head_dim

    @property
    def matrices(self) -> dict[Module, tuple[int, int]]:
        """A layer's matrices, as (in, out)."""
        return {
            "q_proj": (self.hidden, self.query),
            "k_proj": (self.hidden, self.key_value),
            "v_proj": (self.hidden, self.key_value),
            "o_proj": (self.query, self.hidden),
            "gate_proj": (self.hidden, self.feed_forward),
            "up_proj": (self.hidden, self.feed_forward),
            "down_proj": (self.feed_forward, self.hidden),
        }

    @property
    def linear(self) -> int:
        """Parameters of the matrices of all layers: what a quantised base holds in 4 bits."""
        return self.layers * sum(before * after for before, after in self.matrices.values())

    @property
    def embedding(self) -> int:
        """Parameters of the embedding, which is the head too where the two are tied."""
        return self.vocab * self.hidden

    @property
    def parameters(self) -> int:
        """Parameters in all. They agree with transformers' own count (a test), and with the published ones."""
        bias = sum(self.matrices[name][1] for name in self.biases)
        norms = self.norms * self.hidden + (2 * self.head_dim if self.head_norms else 0)
        embeddings = self.embedding * (1 if self.tied else 2)
        return self.linear + self.layers * (bias + norms) + self.hidden + embeddings + self.vision

    def adapter(self, rank: int, modules: tuple[str, ...] | None, layers: int | None = None) -> int:
        """Parameters of a LoRA: rank x (in + out) of each adapted matrix (Hu et al., 2021, arXiv:2106.09685). ``modules`` None: all.
        A picture encoder's adapters are not counted."""
        adapted = self.adapted(modules)
        return rank * (self.layers if layers is None else layers) * sum(sum(self.matrices[name]) for name in adapted)

    def adapted(self, modules: tuple[str, ...] | None) -> tuple[Module, ...]:
        """Which of the matrices a recipe's ``target_modules`` means."""
        return tuple(name for name in self.matrices if modules is None or any(one.split(".")[-1] == name for one in modules))


def shape_of(config: Mapping[str, Any], name: str) -> ModelShape:
    """The shape in a ``config.json``. Raises InvalidInput for a model whose matrices are not known here."""
    text: Mapping[str, Any] = config.get("text_config") or config
    family = str(config.get("model_type"))
    if family not in FAMILIES:
        close = near(family, FAMILIES, most=1)
        raise InvalidInput(
            f"Model '{name}' is of type '{family}', whose memory cannot be estimated"
            + (f" (nearest known: {close[0]})" if close else "")
            + f"; known are {', '.join(FAMILIES)}."
        )
    gemma = family.startswith("gemma3")
    values = {**(_GEMMA if gemma else {}), **text}
    try:
        hidden, heads = int(values["hidden_size"]), int(values["num_attention_heads"])
        shape = ModelShape(
            family=family,
            hidden=hidden,
            feed_forward=int(values["intermediate_size"]),
            layers=int(values["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(values.get("num_key_value_heads") or heads),
            head_dim=int(values.get("head_dim") or hidden // heads),
            vocab=int(values["vocab_size"]),
            tied=bool(values.get("tie_word_embeddings", config.get("tie_word_embeddings", gemma))),
            norms=4 if gemma else 2,
            head_norms=gemma or family == "qwen3",
            biases=_biases(family, values),
            vision=_vision(config.get("vision_config"), hidden),
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise InvalidInput(
            f"The config.json of model '{name}' cannot be used: {error!r}; it needs its sizes as numbers."
        ) from None
    return shape


def _biases(family: str, values: Mapping[str, Any]) -> tuple[Module, ...]:
    if family == "qwen2":
        return ("q_proj", "k_proj", "v_proj")
    found: tuple[Module, ...] = ()
    if values.get("attention_bias"):
        found += ("q_proj", "k_proj", "v_proj", "o_proj")
    if values.get("mlp_bias"):
        found += ("gate_proj", "up_proj", "down_proj")
    return found


def _vision(vision: Mapping[str, Any] | None, hidden: int) -> int:
    """Parameters of a SigLIP encoder with its projection into the text model."""
    if not vision:
        return 0
    width, inner = int(vision.get("hidden_size", 768)), int(vision.get("intermediate_size", 3072))
    patch, places = int(vision.get("patch_size", 16)), int(vision.get("image_size", 224)) // int(vision.get("patch_size", 16))
    layer = 4 * (width * width + width) + 2 * width * inner + inner + width + 4 * width
    embedding = 3 * patch * patch * width + width + places * places * width
    pooling = layer - width if vision.get("vision_use_head", True) else 0  # a layer with one norm and a probe
    return int(vision.get("num_hidden_layers", 12)) * layer + embedding + 2 * width + pooling + width * hidden + width
