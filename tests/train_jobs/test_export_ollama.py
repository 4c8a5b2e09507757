"""Modelfiles render as chat templates do: checked with a renderer of the part of Go's text/template that they use."""

import re
from typing import Any

import pytest
from transformers import AutoTokenizer

from cluster.domain.agents import Agent, GenerationSettings
from cluster.errors import InvalidInput
from cluster.settings import ROOT
from tests.miniatures import ARCHITECTURES, tokenizer_of
from train_jobs.export import ollama

CONVERSATIONS = (
    [{"role": "user", "content": "Where?"}],
    [{"role": "system", "content": "Be brief.\nVery."}, {"role": "user", "content": "Where is {{ it }}?"}],
    [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two\nlines"},
        {"role": "user", "content": "three"},
    ],
    [
        {"role": "system", "content": 'Say "yes".'},
        *({"role": ("user", "assistant")[at % 2], "content": f"turn {at}"} for at in range(7)),
    ],
)


class Go:
    """Variables, if/else, range over messages, eq, and, len and slice, with exact whitespace; what Go would refuse is an error here too."""

    def __init__(self, template: str) -> None:
        self.parts = [part for part in re.split(r"(\{\{ .*? \}\})", template) if part]

    def render(self, messages: list[dict[str, str]]) -> str:
        system = "\n\n".join(one["content"] for one in messages if one["role"] == "system")
        self.root = {"System": system, "Messages": messages}
        self.variables: dict[str, Any] = {}
        self.out: list[str] = []
        end = self.block(0, True)
        assert end == len(self.parts)
        return "".join(self.out)

    def block(self, at: int, live: bool) -> int:
        """Runs parts from ``at`` on to the end of this block; returns the place of its else or end."""
        while at < len(self.parts):
            part = self.parts[at]
            if not part.startswith("{{ "):
                self.out += [part] if live else []
                at += 1
                continue
            action = part[3:-3]
            word = action.split(" ")[0]
            if word in ("end", "else"):
                return at
            if word == "if":
                at = self.branch(at, action[3:], live)
            elif word == "range":
                at = self.loop(at, action, live)
            else:
                if live:
                    self.do(action)
                at += 1
        return at

    def branch(self, at: int, condition: str, live: bool) -> int:
        taken = live and bool(self.value(condition))
        at = self.block(at + 1, taken)
        action = self.parts[at][3:-3]
        if action.startswith("else if "):
            return self.branch(at, action[8:], live and not taken)
        if action == "else":
            at = self.block(at + 1, live and not taken)
        assert self.parts[at] == "{{ end }}"
        return at + 1

    def loop(self, at: int, action: str, live: bool) -> int:
        number, item, source = re.fullmatch(r"range \$(\w+), \$(\w+) := (\S+)", action).groups()
        end = self.block(at + 1, False)
        for index, one in enumerate(self.value(source) if live else []):
            self.variables |= {number: index, item: one}
            assert self.block(at + 1, True) == end
        return end + 1

    def do(self, action: str) -> None:
        assigned = re.fullmatch(r"\$(\w+) :?= (.*)", action)
        if assigned:
            self.variables[assigned[1]] = self.value(assigned[2])
        else:
            self.out.append(str(self.value(action)))

    def value(self, text: str) -> Any:
        text = text.strip()
        words = words_of(text)
        if len(words) > 1:
            given = [self.value(word) for word in words[1:]]
            known = {"eq": lambda a, b: a == b, "and": lambda *a: all(a), "len": len, "slice": lambda a, start: a[start:]}
            return known[words[0]](*given)
        if text.startswith("("):
            return self.value(text[1:-1])
        if text.startswith('"'):
            return text[1:-1]
        if text.isdigit() or text in ("true", "false"):
            return int(text) if text.isdigit() else text == "true"
        name, _, field = text.partition(".")
        found = self.root if name in ("", "$") else self.variables[name.removeprefix("$")]
        return found[{"Role": "role", "Content": "content"}.get(field, field)] if field else found


def words_of(text: str) -> list[str]:
    """Split at blanks outside of quotes and parentheses."""
    words, depth = [""], 0
    for piece in re.findall(r'"[^"]*"|.', text):
        depth += (piece == "(") - (piece == ")")
        if piece == " " and not depth:
            words.append("")
        else:
            words[-1] += piece
    return words


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Any]:
    older = tokenizer_of("mistral")  # Mistral's templates of 2024 put the system prompt at the last question
    older.chat_template = older.chat_template.replace("loop.first", "loop.last")
    return {
        **{kind: tokenizer_of(kind) for kind in ARCHITECTURES},
        "older": older,
        "starter": AutoTokenizer.from_pretrained(ROOT / "models" / "starter"),
    }


@pytest.mark.parametrize("kind", [*ARCHITECTURES, "older", "starter"])
def test_the_modelfile_renders_to_the_letter_what_the_chat_template_does(tokenizers, kind):
    tokenizer = tokenizers[kind]
    template = Go(ollama.go_template(ollama.turns_of(tokenizer, kind)))
    for messages in CONVERSATIONS:
        expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        assert (tokenizer.bos_token or "") + template.render(messages) == expected


def test_an_answer_begun_is_gone_on_with(tokenizers):
    template = Go(ollama.go_template(ollama.turns_of(tokenizers["starter"], "starter")))
    begun = [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "one, t"}]
    assert template.render(begun) == "<|user|>Count.<|end|><|assistant|>one, t"


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{% for m in messages %}{{ m['role'] }}: {{ m['content'] | upper }}{% endfor %}", "leaves out or moves"),
        ("{% for m in messages %}[{{ loop.length }}] {{ m['content'] }}{% endfor %}", "more than the roles"),
        (
            "{% for m in messages %}{{ raise_exception('no system') if m['role'] == 'system' }}{{ m['content'] }}{% endfor %}",
            "no system",
        ),
        ("{{ messages[-1]['content'] }}", "leaves out or moves"),
    ],
    ids=["changes contents", "counts", "refuses", "forgets"],
)
def test_a_template_that_no_modelfile_can_say_is_refused_with_the_way_out(template, says):
    tokenizer = tokenizer_of("qwen3")
    tokenizer.chat_template = template
    with pytest.raises(InvalidInput, match="cannot be written as an Ollama template") as caught:
        ollama.turns_of(tokenizer, "odd")
    assert says in caught.value.message
    assert "--form gguf" in caught.value.message


def test_the_modelfile_samples_as_the_agent_is_served(tokenizers):
    settings = GenerationSettings(max_tokens=64, temperature=0.7, top_p=0.9, stop=('a "b"\n',))
    card = Agent(name="linux", prompt="Write one shell command.", generation=settings)
    text = ollama.modelfile(card, "linux.gguf", ollama.turns_of(tokenizers["gemma3"], "x"), ["<eos>", "<end_of_turn>"], 512)
    assert text.startswith('FROM ./linux.gguf\nTEMPLATE """')
    assert 'SYSTEM """Write one shell command."""\n' in text
    for line in ("temperature 0.7", "top_p 0.9", "top_k 0", "repeat_penalty 1", "num_predict 64", "num_ctx 512"):
        assert f"PARAMETER {line}\n" in text
    for stop in ('"<eos>"', '"<end_of_turn>"', r'"a \"b\"\n"'):
        assert f"PARAMETER stop {stop}\n" in text
    assert "<bos>" not in text, "Ollama's engine puts it before every prompt"


def test_a_prompt_that_would_end_its_own_quotes_is_refused(tokenizers):
    with pytest.raises(InvalidInput, match='cannot hold a prompt with """'):
        ollama.modelfile(Agent(name="x", prompt='Say """.'), "x.gguf", ollama.turns_of(tokenizers["starter"], "x"), [], 512)


def test_templates_that_trim_are_noticed(tokenizers):
    assert [ollama.trims(tokenizers[kind]) for kind in ("qwen3", "llama3", "gemma3", "starter")] == [False, True, True, False]
