"""An Ollama model of a release: the GGUF file and a Modelfile that renders prompts exactly as the base's chat template does.

The Go template is not looked up by name: the base's own template is asked to render conversations with marked contents, what stands
between the marks becomes the Go template, and the result is tried on more conversations. A template that does more than put fixed text
around contents (conditions on the content, tools, counters) is refused, for then no Modelfile of this kind could say the same.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from cluster.domain.agents import Agent
from cluster.errors import InvalidInput

Conversation = Sequence[dict[str, str]]
_SYSTEM, _USER, _ANSWER, _AGAIN = "Xsystemx", "Xuserx", "Xanswerx", "Xagainx"


class Turns(NamedTuple):
    """The fixed text around contents, without the beginning-of-text token, which Ollama's engine adds by itself.

    ``first`` stands before the first question, ``later`` before each further one, ``answer`` between question and answer, and ``end``
    after the last question. With a system message, the pair ``with_system`` (before and after it) stands in place of ``first``; where the
    template puts it at the last question, ``at_last`` stands in place of ``later`` there.
    """

    first: str
    later: str
    answer: str
    end: str
    with_system: tuple[str, str]
    at_last: tuple[str, str] | None

    def render(self, messages: Conversation) -> str:
        """What the Go template makes of a conversation (system first, then questions and answers in turn)."""
        system = "".join(one["content"] for one in messages if one["role"] == "system")
        turns = [one for one in messages if one["role"] != "system"]
        text = ""
        for at, one in enumerate(turns):
            last = at == len(turns) - 1
            if one["role"] == "assistant":
                text += self.answer + one["content"]
            elif system and (last if self.at_last else at == 0):
                before, after = self.with_system if at == 0 or not self.at_last else self.at_last
                text += before + system + after + one["content"]
            else:
                text += (self.later if at else self.first) + one["content"]
        return text + (self.end if turns[-1]["role"] == "user" else "")


def _said(*contents: str, system: str | None = None) -> list[dict[str, str]]:
    turns = [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(contents)]
    return [{"role": "system", "content": system}, *turns] if system else turns


PROBES = (
    _said("How many?"),
    _said("How many?", system="Be brief.\nAnswer in numbers."),
    _said("List files.", "ls", "And the hidden ones?"),
    _said("List files.", "ls", "And the hidden ones?", system="Write one command."),
    _said("a", "b\nc", "d {x}", "e", "f 'g' \"h\"", system="s"),
)
"""Conversations on which Go template and chat template must agree to the letter."""


def _rendered(tokenizer: Any, messages: Conversation) -> str:
    text = str(tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False))
    return text.removeprefix(tokenizer.bos_token) if tokenizer.bos_token else text


def _between(text: str, marks: Sequence[str]) -> list[str]:
    found = []
    for mark in marks:
        before, seen, text = text.partition(mark)
        if not seen:
            raise ValueError(f"it leaves out or moves {mark}")
        found.append(before)
    return [*found, text]


def turns_of(tokenizer: Any, base: str) -> Turns:
    """The chat template as fixed text around contents. Raises InvalidInput when it is not of that kind."""
    try:
        first, answer, later, end = _between(_rendered(tokenizer, _said(_USER, _ANSWER, _AGAIN)), (_USER, _ANSWER, _AGAIN))
        before, after, _ = _between(_rendered(tokenizer, _said(_USER, system=_SYSTEM)), (_SYSTEM, _USER))
        whole = _rendered(tokenizer, _said(_USER, _ANSWER, _AGAIN, system=_SYSTEM))
        at_last = None
        if whole.find(_SYSTEM) > whole.find(_USER) >= 0:
            _, _, here, then, _ = _between(whole, (_USER, _ANSWER, _SYSTEM, _AGAIN))
            at_last = (here, then)
        turns = Turns(first, later, answer, end, (before, after), at_last)
        for probe in PROBES:
            if turns.render(probe) != _rendered(tokenizer, probe):
                raise ValueError("what it writes depends on more than the roles")
    except Exception as error:  # a template is a program of somebody else's, and raises what it likes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidInput(
            f"The chat template of base '{base}' cannot be written as an Ollama template ({reason}); use --form gguf: that file carries "
            "the chat template itself."
        ) from None
    return turns


def trims(tokenizer: Any) -> bool:
    """Whether the chat template takes blanks off the ends of contents, which Ollama's templates cannot."""
    return _rendered(tokenizer, _said("  x  ")) == _rendered(tokenizer, _said("x"))


def _go(text: str) -> str:
    """Text as it may stand in a Go template."""
    return text.replace("{{", '{{ "{{" }}')


def go_template(turns: Turns) -> str:
    """The Go template. Whitespace is exact: no action trims any."""
    before, after = map(_go, turns.with_system)
    plain = f"{{{{ if $first }}}}{_go(turns.first)}{{{{ else }}}}{_go(turns.later)}{{{{ end }}}}"
    system = f"{before}{{{{ $.System }}}}{after}"
    if turns.at_last:
        here, then = map(_go, turns.at_last)
        system = f"{{{{ if $first }}}}{system}{{{{ else }}}}{here}{{{{ $.System }}}}{then}{{{{ end }}}}"
        where = "and $.System (eq (len (slice $.Messages $i)) 1)"
    else:
        where = "and $.System $first"
    question = f"{{{{ if {where} }}}}{system}{{{{ else }}}}{plain}{{{{ end }}}}{{{{ $first = false }}}}{{{{ $m.Content }}}}"
    answer = f"{_go(turns.answer)}{{{{ $m.Content }}}}"
    return (
        '{{ $first := true }}{{ $last := "" }}{{ range $i, $m := .Messages }}'
        f'{{{{ if eq $m.Role "user" }}}}{question}{{{{ else if eq $m.Role "assistant" }}}}{answer}{{{{ end }}}}'
        "{{ $last = $m.Role }}{{ end }}"
        f'{{{{ if eq $last "user" }}}}{_go(turns.end)}{{{{ end }}}}'
    )


def _quoted(text: str, what: str) -> str:
    if '"""' in text or text.endswith('"'):
        raise InvalidInput(f'A Modelfile cannot hold a {what} with """ in it or " at its end; change it, or use --form gguf.')
    return f'"""{text}"""'


def modelfile(card: Agent, gguf: str, turns: Turns, stops: Sequence[str], context: int, strip: bool = False) -> str:
    """The Modelfile of an agent: sampling as it is served (Ollama's own defaults would differ), ``stops`` and the agent's prompt.

    ``strip`` takes blanks off the ends of the prompt, for templates that do (see ``trims``).
    """
    settings = card.generation
    lines = [f"FROM ./{gguf}", f"TEMPLATE {_quoted(go_template(turns), 'template')}"]
    prompt = card.prompt.strip() if strip else card.prompt
    lines += [f"SYSTEM {_quoted(prompt, 'prompt')}"] if prompt else []
    for stop in dict.fromkeys([*stops, *settings.stop]):
        escaped = stop.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        lines.append(f'PARAMETER stop "{escaped}"')
    values = {
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "top_k": 0,
        "min_p": 0,
        "repeat_penalty": 1,
        "num_predict": settings.max_tokens,
        "num_ctx": context,
    }
    lines += [
        f"PARAMETER {name} {value:g}" if isinstance(value, float) else f"PARAMETER {name} {value}"
        for name, value in values.items()
    ]
    return "\n".join(lines) + "\n"
