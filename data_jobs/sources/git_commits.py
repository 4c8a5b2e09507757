"""The messages of a repository's history as JSON lines, oldest first: {"date", "sha", "text", "title"}. A new commit changes the last
file alone, as long as the history is not rewritten and nothing older is merged. Nobody's name or address is taken from the commits' own
fields."""

import json
import re
from pathlib import Path

from data_jobs.sources.found import Candidate, Haul
from data_jobs.sources.git_process import Git
from data_jobs.sources.spool import keep_only, write_once

_PER_FILE = 1000
_LONGEST = 1_000_000
# "Signed-off-by: …", "Co-authored-by: …", "Cc: …": lines that say who, not what.
_TRAILER = re.compile(r"^[ \t]*(?:[A-Za-z]+(?:-[A-Za-z]+)*-by|Cc|Author|Committer)[ \t]*:.*$\n?", re.MULTILINE | re.IGNORECASE)


def bring(git: Git, commit: str, folder: Path, name: str, haul: Haul) -> None:
    """The messages up to a commit, a thousand to a file; one that is longer than a book is refused."""
    lines: list[str] = []
    form = ("--format=%H%x1f%cd%x1f%B", "--date=iso-strict-local", "--encoding=UTF-8")
    order = ("--reverse", "--topo-order", "--no-show-signature", "--no-notes", "--no-color")
    for record, cut in git.records("log", "-z", *form, *order, "--end-of-options", commit, "--", longest=_LONGEST):
        sha, date, message = record.decode("utf-8", "replace").split("\x1f", 2)
        if cut:
            haul.refuse(f"commit {sha}", "too_large", f"the message has more than {_LONGEST:,} bytes")
            continue
        text = _TRAILER.sub("", message).strip()
        entry = {"date": date, "sha": sha, "text": text, "title": text.partition("\n")[0]}
        lines.append(json.dumps(entry, ensure_ascii=False) + "\n")
    files = {}
    for number in range(0, len(lines), _PER_FILE):
        files[f"{number // _PER_FILE + 1:04d}.jsonl"] = "".join(lines[number : number + _PER_FILE]).encode()
    for file, data in files.items():
        write_once(folder / file, data)
        source = f"commits/{file}"
        haul.files.append(Candidate(str(folder / file), source, f"{name}:{source}", len(data)))
    keep_only(folder, files)
