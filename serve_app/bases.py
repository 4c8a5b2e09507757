"""The base models that are served: each has an engine of its own, and releases answer on the base they were trained on.

Which one that is, is one look-up of the release's ``base_digest``; with a single base there is nothing to look up.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from cluster.base_model import base_digest
from cluster.domain.agents import GenerationSettings
from cluster.domain.base import new_id
from cluster.domain.conversations import Message
from cluster.domain.prompts import prompt_ids, tool_prompt_ids
from cluster.domain.releases import Release
from cluster.errors import InvalidInput
from cluster.model_roles import ModelRole
from cluster.settings import Settings
from serve_app.ask import Ask
from serve_app.back_pressure import Bounded, Room
from serve_app.engine import Engine, GenerationRequest
from serve_app.response_parsing import served_marks


class Base:
    """One base model: its engine, and what prompts for it are made and bounded by. ``digest`` is empty where it is the only one."""

    def __init__(self, role: ModelRole, engine: Bounded, tokenizer: Any, max_model_len: int, digest: str = "") -> None:
        self.role, self.name, self.digest = role, role.name, digest
        self.engine, self.tokenizer, self.max_model_len = engine, tokenizer, max_model_len
        self.marks = served_marks(tokenizer)

    def prompt(self, ask: Ask, messages: list[Message]) -> list[int]:
        """The messages as this base reads them. Raises InvalidInput when its chat template does not take them."""
        try:
            if not ask.thread:
                return prompt_ids(self.tokenizer, messages)
            return tool_prompt_ids(self.tokenizer, messages, ask.thread, ask.tools)
        except (TemplateError, ValueError) as error:
            raise InvalidInput(f"The base model '{self.name}' does not take these messages: {error}; send others.") from None

    def request(self, ids: list[int], generation: GenerationSettings, ask: Ask, adapter: str | None) -> GenerationRequest:
        """What the engine is asked. Raises InvalidInput when the prompt leaves no room for an answer."""
        room = self.max_model_len - len(ids)
        if room < 1:
            raise InvalidInput(
                f"The prompt is {len(ids)} tokens long and the model takes {self.max_model_len - 1}; send a shorter history or question."
            )
        chosen = generation.model_copy(update=ask.overrides) if ask.overrides else generation
        return GenerationRequest(
            id=new_id("gen"),
            prompt_ids=ids,
            adapter=adapter,
            max_tokens=min(chosen.max_tokens, room),
            temperature=chosen.temperature,
            top_p=chosen.top_p,
            stop=tuple(chosen.stop),
            seed=ask.seed,
            stream=ask.stream,
            extra=ask.extra,
        )


class Bases:
    """All of them; ``first`` is the default. ``room`` is for the answers of all together."""

    def __init__(self, bases: Sequence[Base], room: Room) -> None:
        self.first, self.room = bases[0], room
        self._by_name = {base.name: base for base in bases}
        # Of two with the same bytes the first has their releases.
        self._by_digest = {base.digest: base for base in reversed(bases) if base.digest}

    def __iter__(self) -> Iterator[Base]:
        return iter(self._by_name.values())

    @property
    def names(self) -> list[str]:
        return list(self._by_name)

    def named(self, model: str) -> Base | None:
        """The base that is asked for by its own name."""
        return self._by_name.get(model)

    def of(self, release: Release | None) -> Base:
        """Where a release answers; the first for none, and for one of a base that is not served, whose adapter its engine refuses."""
        return self.first if release is None else self._by_digest.get(release.base_digest, self.first)

    def behind(self, model: str, release: Release | None) -> Base:
        """The base behind a name that is listed, and the release that answers for it."""
        return self.named(model) or self.of(release)


def open_bases(settings: Settings, engines: Mapping[str, Engine]) -> Bases:
    """The bases of the settings on their engines, by name. Reads tokenizers, and with several bases digests: not for an event loop."""
    room = Room(settings.router.most_at_once)
    several = len(settings.bases) > 1
    return Bases(
        [
            Base(
                role,
                Bounded(engines[role.name], room),
                open_tokenizer(role.location),
                settings.for_base(role.name).engine.max_model_len,
                base_digest(role) if several else "",
            )
            for role in settings.bases
        ],
        room,
    )


def open_tokenizer(location: str) -> Any:
    """A base model's transformers tokenizer, from disk or the hub."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(location)
