"""CLI.md: every command with its arguments and options, written from the commands themselves.

``python -m cluster.cli.reference`` prints it; a test holds CLI.md to it.
"""

from typing import Any, Iterator

import typer

from cluster.cli.app import app


def markdown() -> str:
    """The whole reference."""
    head = "# `treadle`\n\nWritten by `python -m cluster.cli.reference > CLI.md`. Every command takes `--json`, and `--help`.\n"
    return head + "\n".join(_command("treadle", typer.main.get_command(app)))


def _command(path: str, command: Any) -> Iterator[str]:
    inside = getattr(command, "commands", None)
    if inside is not None:
        if path != "treadle":
            yield f"\n## {path.removeprefix('treadle ')}\n\n{command.help.strip()}"
        # Words with commands of their own come after those without: they have a section each.
        for name, one in sorted(inside.items(), key=lambda item: hasattr(item[1], "commands")):
            yield from _command(f"{path} {name}", one)
        return
    shown = [one for one in command.params if one.name not in ("as_json", "help") and not getattr(one, "hidden", False)]
    needed = [
        _place(one) if one.param_type_name == "argument" else f"{one.opts[0]} {one.name.upper()}" for one in shown if one.required
    ]
    given = [_place(one) for one in shown if one.param_type_name == "argument" and not one.required]
    yield f"\n`{' '.join([path, *needed, *given])}`  \n{command.help.strip()}"
    lines = [line for one in shown if (line := _line(one))]
    if lines:
        yield "\n" + "\n".join(lines)


def _line(one: Any) -> str:
    """What there is to say of a parameter beyond its name, which the usage line shows."""
    argument = one.param_type_name == "argument"
    name = _place(one) if argument else ", ".join([*one.opts, *one.secondary_opts])
    default = f" Default: `{one.default}`." if one.default not in (None, False, ()) and not one.required else ""
    if not (one.help or default) and (argument or one.required):
        return ""
    return f"- `{name}`: {one.help or ''}{default}".replace(":  Default", ": default").rstrip(": ")


def _place(one: Any) -> str:
    name = one.name.upper() + ("..." if one.nargs == -1 else "")
    return name if one.required else f"[{name}]"


if __name__ == "__main__":
    print(markdown())
