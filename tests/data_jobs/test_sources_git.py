"""Repositories: files and messages at a revision, again with little work, and what a hostile repository tries. With real git."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from cluster.errors import InvalidInput, NotFound, TreadleError, Unavailable
from tests.data_jobs.repositories import SETTINGS, Made, got, texts


def test_files_and_messages(made: Made, tmp_path: Path) -> None:
    made.commit("First\n\nWhy it is so.\n\nSigned-off-by: Somebody Named <somebody@example.org>\nCo-authored-by: B <b@example.org>",
                a_md="# A", docs__B_TXT="B", _github__x_yml="x")  # fmt: skip
    made.commit("Second", a_md="# A\n\nMore.")
    gathered = got(tmp_path / "spool", f"git+{made.root}")
    assert [(one.source, Path(one.path).suffix) for one in gathered.files] == [
        ("a.md", ".md"),
        ("commits/0001.jsonl", ".jsonl"),
        ("docs/B.TXT", ".txt"),
    ]
    assert texts(gathered)["a.md"] == "# A\n\nMore."
    first, second = map(json.loads, texts(gathered)["commits/0001.jsonl"].splitlines())
    assert first["title"] == "First"
    assert first["text"] == "First\n\nWhy it is so."
    assert first["date"].startswith("2024-03-01T10:00:00")
    assert second["sha"] == made.git("rev-parse", "HEAD")
    assert "omebody" not in json.dumps([first, second])
    assert all(one.bytes == Path(one.path).stat().st_size for one in gathered.files)


def test_revisions_and_parts(made: Made, tmp_path: Path) -> None:
    first = made.commit("First", a_txt="1")
    made.git("tag", "-a", "v1", "-m", "x")
    made.git("branch", "topic/x")
    made.commit("Second", a_txt="2", b_txt="b")
    root = f"git+{made.root}"
    for revision in (first, first[:10], "v1", "topic/x", "main~1"):
        assert texts(got(tmp_path / "spool", f"{root}@{revision}#files")) == {"a.txt": "1"}
    assert list(texts(got(tmp_path / "spool", f"{root}#commits"))) == ["commits/0001.jsonl"]
    assert len(texts(got(tmp_path / "spool", f"{root}@v1#commits"))["commits/0001.jsonl"].splitlines()) == 1
    both = got(tmp_path / "spool", f"{root}@v1#files", f"git+{made.root.as_uri()}#files", made.root / "b.txt")
    assert [one.source for one in both.files] == [
        str(made.root / "b.txt"),
        f"{root}@v1:a.txt",
        f"git+{made.root.as_uri()}:a.txt",
        f"git+{made.root.as_uri()}:b.txt",
    ]
    with pytest.raises(NotFound, match="has no revision 'v2'; give a branch, a tag"):
        got(tmp_path / "spool", f"{root}@v2")


def test_a_path_with_an_at_sign_and_a_bare_repository(made: Made, tmp_path: Path) -> None:
    made.commit("First", a_txt="1")
    made.git("clone", "--quiet", "--bare", str(made.root), str(tmp_path / "team@work.git"))
    given = f"git+{tmp_path}/team@work.git"
    assert (
        texts(got(tmp_path / "spool", f"{given}#files"))
        == texts(got(tmp_path / "spool", f"{given}@main#files"))
        == {"a.txt": "1"}
    )


def test_again_only_what_is_new_is_written(made: Made, tmp_path: Path) -> None:
    made.commit("First", a_txt="a", b_txt="b", same_txt="a")
    given = f"git+{made.root}"
    before = {one.source: (one.path, Path(one.path).stat().st_mtime_ns) for one in got(tmp_path / "spool", given).files}
    assert before["a.txt"] == before["same.txt"]
    (made.root / "b.txt").unlink()
    made.commit("Second", c_txt="c")
    gathered = got(tmp_path / "spool", given)
    after = {one.source: (one.path, Path(one.path).stat().st_mtime_ns) for one in gathered.files}
    assert set(after) == {"a.txt", "c.txt", "commits/0001.jsonl", "same.txt"}
    assert after["a.txt"] == before["a.txt"]
    assert not Path(before["b.txt"][0]).exists()
    fresh = got(tmp_path / "fresh", given)
    assert texts(fresh) == texts(gathered)


def test_a_copy_that_was_cut_and_a_git_that_was_killed_are_mended(made: Made, tmp_path: Path) -> None:
    made.commit("First", a_txt="a text")
    (file,) = got(tmp_path / "spool", f"git+{made.root}#files").files
    Path(file.path).write_text("a t")
    (Path(file.path).parent / ".writing_1").write_text("a")
    repository = next((tmp_path / "spool" / "git").glob("*/repository"))
    (repository / "refs/heads/given.lock").touch()
    (repository / "packed-refs.lock").touch()
    (repository / "config.lock").touch()
    made.commit("Second")
    assert texts(got(tmp_path / "spool", f"git+{made.root}#files")) == {"a.txt": "a text"}
    assert [one.name for one in Path(file.path).parent.iterdir()] == [Path(file.path).name]


@pytest.mark.parametrize("milliseconds", [5, 20, 40, 80])
def test_a_run_that_is_killed_and_run_again_ends_like_an_unbroken_one(made: Made, tmp_path: Path, milliseconds: int) -> None:
    made.commit("First", **{f"file-{number}_txt": f"text {number}" * 50 for number in range(300)})
    child = os.fork()
    if not child:
        try:
            got(tmp_path / "spool", f"git+{made.root}")
        finally:
            os._exit(0)
    time.sleep(milliseconds / 1000)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert texts(got(tmp_path / "spool", f"git+{made.root}")) == texts(got(tmp_path / "fresh", f"git+{made.root}"))


def test_many_messages_are_several_files_of_which_the_last_changes(made: Made, tmp_path: Path) -> None:
    def stream(first: int, last: int) -> bytes:
        start = "" if first else "reset refs/heads/main\n"
        return (start + "".join(
            f"commit refs/heads/main\ncommitter A <a@example.org> {1700000000 + n} +0000\ndata {len(f'Change {n}')}\nChange {n}\n"
            + (f"from {'refs/heads/main^0'}\n" if first and n == first else "")
            for n in range(first, last)
        )).encode()  # fmt: skip

    made.git("fast-import", "--quiet", data=stream(0, 1001))
    given = f"git+{made.root}#commits"
    before = got(tmp_path / "spool", given)
    assert [text.count("\n") for text in texts(before).values()] == [1000, 1]
    written = Path(before.files[0].path).stat().st_mtime_ns
    made.git("fast-import", "--quiet", data=stream(1001, 1003))
    after = got(tmp_path / "spool", given)
    assert [json.loads(line)["title"] for line in texts(after)["commits/0002.jsonl"].splitlines()] == [
        f"Change {n}" for n in (1000, 1001, 1002)
    ]
    assert Path(after.files[0].path).stat().st_mtime_ns == written


def test_what_is_no_file_is_refused(made: Made, tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12\n"
    made.commit("First", a_txt="a", big_bin=pointer, large_txt="x" * 1_000_001)
    (made.root / "link.txt").symlink_to("/etc/passwd")
    made.commit("Second")
    made.git("update-index", "--add", "--cacheinfo", f"160000,{made.git('rev-parse', 'HEAD')},vendor/sub")
    made.git("commit", "--quiet", "-m", "Third")
    for _ in range(2):
        gathered = got(tmp_path / "spool", f"git+{made.root}#files", settings=SETTINGS.model_copy(update={"megabytes": 1}))
        assert [one.source for one in gathered.files] == ["a.txt"]
        assert [(one.source, one.reason) for one in gathered.refused] == [
            ("big.bin", "lfs_pointer"),
            ("large.txt", "too_large"),
            ("link.txt", "link"),
            ("vendor/sub", "submodule"),
        ]


def test_odd_names_are_harmless(made: Made, tmp_path: Path) -> None:
    made.entry(
        "Odd",
        ("100644", b"-rf.txt", b"1"),
        ("100644", b"..", b"2"),
        ("100644", b"../../up.txt", b"3"),
        ("100644", b"/etc/abs.txt", b"4"),
        ("100644", b"caf\xe9.txt", b"5"),
        ("100644", b"two\nlines.txt", b"6"),
        ("100644", b"tab\t\"quote\".TxT", b"7"),
        ("100644", b"no_ending.\xff\xfe", b"8"),
        ("100644", b"x" * 300 + b".md", b"9"),
    )  # fmt: skip
    gathered = got(tmp_path / "spool", f"git+{made.root}#files")
    assert {one.source[-20:]: (Path(one.path).read_text(), Path(one.path).suffix) for one in gathered.files} == {
        "-rf.txt": ("1", ".txt"),
        "/etc/abs.txt": ("4", ".txt"),
        r"caf\xe9.txt": ("5", ".txt"),
        r"two\nlines.txt": ("6", ".txt"),
        r'tab\t"quote".TxT': ("7", ".txt"),
        r"no_ending.\xff\xfe": ("8", ""),
        "x" * 17 + ".md": ("9", ".md"),
    }
    assert {one.source for one in gathered.refused} == {"..", "../../up.txt"}
    assert all(Path(one.path).is_relative_to(tmp_path / "spool") for one in gathered.files)


def test_nothing_of_a_repository_is_run(made: Made, tmp_path: Path) -> None:
    """Hooks, filters, monitors and helpers that would leave a mark."""
    made.commit("First", a_txt="a", _gitattributes="*.txt filter=evil diff=evil")
    mark = tmp_path / "mark"
    script = tmp_path / "evil.sh"
    script.write_text(f"#!/bin/sh\ntouch {mark}\n")
    script.chmod(0o755)
    for hook in (
        "post-checkout",
        "reference-transaction",
        "post-merge",
        "pre-auto-gc",
        "post-index-change",
        "fsmonitor-watchman",
    ):
        (made.root / ".git/hooks").mkdir(exist_ok=True)
        (made.root / ".git/hooks" / hook).symlink_to(script)
    for key in ("core.fsmonitor", "core.sshCommand", "uploadpack.packObjectsHook", "filter.evil.smudge", "diff.evil.textconv",
                "core.alternateRefsCommand", "core.pager", "gpg.program", "credential.helper"):  # fmt: skip
        made.git("config", key, str(script))
    mark.unlink(missing_ok=True)
    assert "a.txt" in texts(got(tmp_path / "spool", f"git+{made.root}"))
    assert not mark.exists()
    repository = next((tmp_path / "spool" / "git").glob("*/repository"))
    assert not list(repository.glob("hooks/*"))
    assert not list((tmp_path / "spool").rglob("a.txt"))


def test_the_users_configuration_is_not_read(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made.commit("First", a_txt="a")
    (tmp_path / "me").mkdir()
    (tmp_path / "me/.gitconfig").write_text('[url "/nowhere/"]\n insteadOf = file:///\n')
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert texts(got(tmp_path / "spool", f"git+{made.root}#files")) == {"a.txt": "a"}


@pytest.mark.parametrize(
    ("given", "kind", "says"),
    [
        ("git+ext::sh -c touch% /tmp/x", InvalidInput, "'git[+]ext::sh -c touch% /tmp/x' is not a repository"),
        ("git+fd::17", InvalidInput, "is not a repository"),
        ("git+-uupload", InvalidInput, "is not a repository"),
        ("git+--upload-pack=/tmp/x", InvalidInput, "is not a repository"),
        ("git+https://-oProxy/x", InvalidInput, "is not a repository"),
        ("git+ssh://-oProxyCommand=x/y", InvalidInput, "is not a repository"),
        ("git+gopher://git.example.org/x", InvalidInput, "is not a repository"),
        ("git+https://git.example.org", InvalidInput, "is not a repository"),
        ("git+https://git.example.org:x/y", InvalidInput, "is not a repository"),
        ("git+https://elsewhere.example/x", InvalidInput, "The host 'elsewhere.example' is not allowed"),
        ("git+ssh://git@elsewhere.example/x", InvalidInput, "The host 'elsewhere.example' is not allowed"),
        ("git+https://git.example.org/x@--upload-pack=y", InvalidInput, "'--upload-pack=y' is not a revision"),
        ("git+https://git.example.org/x@a..b", InvalidInput, "'a..b' is not a revision"),
        ("git+https://git.example.org/x@v1:etc", InvalidInput, "'v1:etc' is not a revision"),
        ("git+https://git.example.org/x#tree", InvalidInput, "'#tree' is not a part of a repository"),
        ("git+/no/such/place", NotFound, "There is no git repository at '/no/such/place'"),
        ("git+file:///no/such/place", NotFound, "There is no git repository at"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_one_sentence(tmp_path: Path, given: str, kind: type[TreadleError], says: str) -> None:
    with pytest.raises(kind, match=says):
        got(tmp_path / "spool", given)
    assert not (tmp_path / "spool").exists()


def test_an_empty_repository_is_one_sentence(made: Made, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="has no commit yet"):
        got(tmp_path / "spool", f"git+{made.root}")


def test_what_is_there_from_earlier_is_used_when_a_repository_is_broken(made: Made, tmp_path: Path) -> None:
    made.commit("First", a_txt="a")
    got(tmp_path / "spool", f"git+{made.root}#files")
    made.commit("Second", a_txt="b")
    for packed in (made.root / ".git/objects").glob("??/*"):
        packed.chmod(0o644)
        packed.write_bytes(b"broken")
    gathered = got(tmp_path / "spool", f"git+{made.root}#files")
    assert texts(gathered) == {"a.txt": "a"}
    assert [(one.source, one.reason) for one in gathered.refused] == [(f"git+{made.root}", "source_failed")]
    with pytest.raises(Unavailable, match="git fetch failed"):
        got(tmp_path / "other", f"git+{made.root}#files")
