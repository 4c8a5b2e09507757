"""A git repository: the files of its tree at a revision, and the messages of its history up to there.

    git+PATH_OR_URL[@REVISION][#files|#commits]

Nothing is checked out and nothing of the repository is run. Files are kept in the spool under their content's id, so what did not change
is not written again; hidden ones are left out. Names and addresses of authors are left out of commits, and so are the trailers that name
people; what a message says in its own words stays. An ssh address uses the key files of this user, no agent.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from cluster.errors import InvalidInput, NotFound, TreadleError
from cluster.settings import SourcesSettings
from data_jobs.sources import git_commits, git_files, paths
from data_jobs.sources.found import Failed, Haul, Say, printable, shown, why
from data_jobs.sources.git_process import Git
from data_jobs.sources.pinned import addresses, check_host
from data_jobs.sources.spool import slot_of

_REVISION = re.compile(r"\w[\w./+~^-]*")
_PARTS = {"files": ("files",), "commits": ("commits",), "": ("files", "commits")}
_PATIENCE = 30
_NOBODY = SecretStr("")
_PORTS = {"https": 443, "http": 80, "ssh": 22}


@dataclass(frozen=True)
class Repository:
    """``url`` is without user and password, which are in ``user``."""

    url: str
    revision: str
    parts: tuple[str, ...]
    name: str
    settings: SourcesSettings
    user: SecretStr = _NOBODY

    @classmethod
    def parse(cls, given: str, settings: SourcesSettings) -> "Repository":
        """Raises InvalidInput for what is no repository's address, NotFound for a path where none is, NotAllowed for a host that the
        settings do not allow."""
        rest, parts = _cut(given[len("git+") :])
        where, revision = _split(rest)
        name = f"git+{shown(where) if '://' in where else printable(where)}"
        if where.startswith("-") or "::" in where.partition("/")[0] or any(ord(one) < 32 for one in rest):
            raise InvalidInput(
                f"'{name}' is not a repository; give a path, or https://, ssh:// or file:// with a host and a path."
            )
        if revision and (not _REVISION.fullmatch(revision) or ".." in revision):
            raise InvalidInput(f"'{printable(revision)}' is not a revision; give a branch, a tag or a commit's id.")
        name += f"@{revision}" if revision else ""
        if "://" in where and not where.lower().startswith("file://"):
            return _remote(where, revision, parts, name, settings)
        path = paths.located(where)
        if not (path / ".git").exists() and not ((path / "HEAD").is_file() and (path / "objects").is_dir()):
            raise NotFound(
                f"There is no git repository at '{printable(where)}'; give the directory that holds .git, or a bare one."
            )
        return cls(path.resolve().as_uri(), revision, parts, name, settings)

    def slot(self, spool: Path) -> Path:
        return slot_of(spool, "git", self.url, self.revision, *self.parts)

    def gather(self, slot: Path, say: Say) -> Haul:
        """Its files and messages in the slot. Raises NotFound for a revision that is not there, Failed where the repository does not
        answer and nothing of it is there from earlier."""
        say(f"fetching {self.name}")
        haul = Haul()
        git = self._git(slot)
        try:
            self._fetch(git)
        except TreadleError as error:
            if not isinstance(error, Failed) or not self._commit(git):
                raise
            haul.refuse(self.name, error.reason, f"{why(error)}; what is there from earlier is used")
        commit = self._commit(git)
        if not commit:
            what = f"no revision '{self.revision}'" if self.revision else "no commit yet"
            raise NotFound(f"{self.name} has {what}; give a branch, a tag or the id of a commit that one of them reaches.")
        if "files" in self.parts:
            git_files.bring(git, commit, slot / "files", self.name, self.settings.megabytes * 1_000_000, haul, say)
        if "commits" in self.parts:
            git_commits.bring(git, commit, slot / "commits", self.name, haul)
        return haul

    def _git(self, slot: Path) -> Git:
        protocol = urlsplit(self.url).scheme
        return Git(slot / "repository", protocol, self.settings.seconds * _PATIENCE, self.user)

    def _fetch(self, git: Git) -> None:
        parts = urlsplit(self.url)
        if parts.scheme != "file":
            host, port = str(parts.hostname), parts.port or _PORTS[parts.scheme]
            found = ",".join(f"[{one}]" if ":" in one else one for one in addresses(host, port, self.settings))
            git = replace(git, pin=f"{host}:{port}:{found}")
        git.tidy()
        git.run("init", "--quiet", "--bare", "--template=", "--initial-branch=none")
        # All branches and tags, because what a revision is called can only be looked up in them.
        references = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"] if self.revision else ["+HEAD:refs/heads/given"]
        try:
            git.fetch(self.url, references)
        except Failed as error:
            if "find remote ref HEAD" in error.message:
                raise NotFound(f"{self.name} has no commit yet; give a repository with files.") from None
            raise

    def _commit(self, git: Git) -> str:
        """The id of the commit, or ""."""
        if not (git.folder / "HEAD").is_file():
            return ""
        try:
            found = git.run(
                "rev-parse", "--verify", "--quiet", "--end-of-options", f"{self.revision or 'refs/heads/given'}^{{commit}}"
            )
        except Failed:
            return ""
        return found.decode().strip()


def _cut(rest: str) -> tuple[str, tuple[str, ...]]:
    """What was given without its ``#…``, and which parts that means."""
    where, mark, part = rest.rpartition("#")
    if mark and part in _PARTS:
        return where, _PARTS[part]
    if mark and "://" in rest:
        raise InvalidInput(f"'#{printable(part)}' is not a part of a repository; write #files, #commits or nothing.")
    return rest, _PARTS[""]


def _split(rest: str) -> tuple[str, str]:
    """The repository and the revision. An @ before a URL's path belongs to its user, and one in the name of a directory to that."""
    scheme, mark, inside = rest.partition("://")
    if mark:
        host, slash, path = inside.partition("/")
        path, _, revision = path.rpartition("@") if "@" in path else (path, "", "")
        return f"{scheme}://{host}{slash}{path}", revision
    if "@" not in rest or paths.located(rest).exists():
        return rest, ""
    where, _, revision = rest.rpartition("@")
    return where, revision


def _remote(where: str, revision: str, parts: tuple[str, ...], name: str, settings: SourcesSettings) -> Repository:
    """A repository at a host. The password, and for http(s) the user, leave the URL here."""
    try:
        url = urlsplit(where)
        host, _ = url.hostname, url.port
    except ValueError:
        raise InvalidInput(f"'{name}' is not a repository; give https://, http:// or ssh:// with a host and a path.") from None
    if url.scheme not in _PORTS or not host or host.startswith("-") or not url.path.strip("/"):
        raise InvalidInput(f"'{name}' is not a repository; give https://, http:// or ssh:// with a host and a path.")
    check_host(host, settings)
    place = url.netloc.rpartition("@")[2]
    if url.scheme == "ssh":
        name_at = f"{url.username}@" if url.username and re.fullmatch(r"\w[\w.-]*", url.username) else ""
        return Repository(f"ssh://{name_at}{place}{url.path}", revision, parts, name, settings)
    user = f"{unquote(url.username or '')}:{unquote(url.password or '')}" if "@" in url.netloc else ""
    return Repository(f"{url.scheme}://{place}{url.path}", revision, parts, name, settings, SecretStr(user))
