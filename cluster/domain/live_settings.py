"""What can be changed while agents answer: in force within a second on every replica, without a restart and without a release.

They hold for whoever asks an agent by its name, or ``auto``. ``agent@version`` answers as it was released and evaluated, whatever they say.
"""

from typing import Literal

from pydantic import Field

from cluster.domain.agents import Agent, GenerationSettings
from cluster.domain.base import Frozen, Name
from cluster.domain.users import Access


class GenerationChanges(Frozen):
    """Generation settings in place of the release's; None leaves the release's."""

    max_tokens: int | None = Field(default=None, ge=1, le=32768)
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    stop: tuple[str, ...] | None = Field(default=None, max_length=8)

    def over(self, settings: GenerationSettings) -> GenerationSettings:
        """The settings with these changes."""
        return settings.model_copy(update=self.model_dump(exclude_none=True))


class AgentSettings(Frozen):
    """The live settings of one agent; None leaves what its card says.

    ``visible``: listed, and answers ``auto``; an agent that is not still answers to its name. ``preload``: its champion is loaded before
    it is asked for. ``guard_policy``: the guard policy for questions to it.
    """

    visible: bool | None = None
    preload: bool = True
    display_name: str | None = Field(default=None, max_length=200)
    description: str | None = Field(default=None, max_length=2000)
    generation: GenerationChanges = GenerationChanges()
    guard_policy: Name | None = None
    access: Access = Access()

    def over(self, card: Agent) -> Agent:
        """The card as it is shown and answers by name."""
        said = {name: getattr(self, name) for name in ("visible", "display_name", "description")}
        changes = {name: value for name, value in said.items() if value is not None}
        return card.model_copy(update={**changes, "generation": self.generation.over(card.generation)})


class ServiceSettings(Frozen):
    """The live settings of the service. ``default_agent`` None: the one whose card says so.

    ``out_of_scope``: what becomes of a question that is for no agent: the default agent answers it, or the person is asked which agent
    they need. ``close_call``: whether they are also asked when two agents are nearly as likely.
    """

    default_agent: Name | None = None
    guard_policy: Name | None = None
    out_of_scope: Literal["default", "ask"] = "default"
    close_call: Literal["best", "ask"] = "best"
