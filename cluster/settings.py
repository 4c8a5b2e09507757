"""Settings: the only reader of the environment.

``configs/treadle.yaml`` names profiles; ``TREADLE_PROFILE`` picks one, ``TREADLE_SETTINGS`` names another file, ``TREADLE_HOME`` holds
everything that is written. A running cluster's ports are in ``$TREADLE_HOME/cluster.json`` (see ``ray_lifecycle``).
"""

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Mapping

import yaml
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator

from cluster.domain.base import Frozen, Name
from cluster.domain.parsing import parse
from cluster.domain.recipes import DpoRecipe, SftRecipe, TuneRecipe
from cluster.domain.users import Role
from cluster.errors import RecipeError, SettingsError, near
from cluster.model_roles import EngineSettings, ModelRole, Models

ROOT = Path(__file__).resolve().parent.parent
_PLACEHOLDER = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_HOST = re.compile(r"(?:\*\.)?[\w-]+(?:\.[\w-]+)*|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*")
_SAFE_ADDRESS = re.compile(r"https://[^/]|http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?(/|$)")
SECRET_BYTES = 32


class RaySettings(Frozen):
    """How the Ray cluster is started or reached. ``address`` None: `treadle up` starts one on this machine."""

    address: str | None = None
    logical_cpus: int | None = Field(default=None, ge=2, description="what Ray schedules by; default: the machine's cores")
    object_store_gib: float = Field(default=2.0, gt=0.1)
    gcs_port: int = Field(default=6379, ge=0, le=65535)
    dashboard_port: int = Field(default=8265, ge=0, le=65535)
    working_dir: bool = Field(default=False, description="send the project to the cluster with every job")


class TlsSettings(Frozen):
    """HTTPS: a certificate (with its chain) and its key as PEM files, or ``self_signed``, which makes both in TREADLE_HOME."""

    certificate: Path | None = None
    key: Path | None = None
    self_signed: bool = False

    @model_validator(mode="after")
    def _is_one_of_both(self) -> "TlsSettings":
        if (self.certificate is None) != (self.key is None) or (self.certificate is None) != self.self_signed:
            raise ValueError("give certificate and key, or self_signed: true")
        return self


class ServeSettings(Frozen):
    """Where the HTTP endpoint listens. ``front`` says who holds the port: the Router replicas (on the nodes where they run), or Ray
    Serve's proxies (on every node, at the cost of one more hop for each token)."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    front: Literal["router", "proxy"] = "router"
    tls: TlsSettings | None = None


class MlflowSettings(Frozen):
    """Where `treadle up` serves the MLflow UI."""

    host: str = "127.0.0.1"
    port: int = Field(default=5000, ge=0, le=65535)


class LimitSettings(Frozen):
    """What one user may ask for, with all keys and logins together and on all replicas. None: as much as they like."""

    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_day: int | None = Field(default=None, ge=1, description="of prompts and answers, by UTC days")


class JwtSettings(Frozen):
    """Bearer tokens that somebody else issues. Either they share ``secret`` with us (HS256), or their public keys stand in ``jwks``, a
    file or an https address (RS256, ES256). With ``discover`` the address is looked up at the issuer, as OpenID Connect has it."""

    secret: SecretStr = SecretStr("")
    jwks: str = ""
    discover: bool = False
    issuer: str = ""
    audience: str = ""
    user_claim: str = "sub"
    role_claim: str = Field(default="role", description="a role, or a list with roles in it; without it: user")

    @model_validator(mode="after")
    def _says_whom_to_believe(self) -> "JwtSettings":
        secret, keys = self.secret.get_secret_value(), bool(self.jwks or self.discover)
        if bool(secret) == keys or (self.jwks and self.discover):
            raise ValueError("give one of secret, jwks and discover")
        if secret and len(secret.encode()) < SECRET_BYTES:
            raise ValueError(f"the secret has {len(secret.encode())} bytes and needs {SECRET_BYTES} (openssl rand -hex 32)")
        if keys and not (self.issuer and self.audience):
            raise ValueError("keys of an issuer sign tokens for others too; give issuer and audience")
        for name, address in (("jwks", self.jwks), ("issuer", self.issuer if self.discover else "")):
            if "://" in address and not _SAFE_ADDRESS.match(address):
                raise ValueError(f"{name} is fetched over https only, or from this machine, not from {address}")
        if self.discover and "://" not in self.issuer:
            raise ValueError("discover needs an issuer that is an https address")
        return self


class RouterSettings(Frozen):
    """The Router deployment. ``limits`` by role; a role that is not named has none."""

    replicas: int = Field(default=1, ge=1)
    cpus: float = Field(default=0.5, ge=0)
    most_at_once: int = Field(default=512, ge=1, description="answers under way in one replica; who asks beyond it gets 429")
    guard: str = "configs/guard.yaml"
    guard_policy: str = Field(default="standard", description="one of the policies in that file")
    follow_seconds: float = Field(default=0.3, gt=0, le=5, description="how often the live releases are looked up")
    rewrite_seconds: float = Field(default=3.0, gt=0, description="how long the finalist may take to make a query of a question")
    fuse_seconds: float = Field(default=30.0, gt=0, description="how long it may take to write an answer")
    limits: dict[Role, LimitSettings] = {}
    jwt: JwtSettings | None = None
    voice_secret: SecretStr = Field(
        default=SecretStr(""), description="what voice webhooks are signed with; without it they are refused"
    )
    voice_user: Name = Field(default="voice", description="whose the calls are that were answered elsewhere")

    @field_validator("voice_secret")
    @classmethod
    def _cannot_be_guessed(cls, value: SecretStr) -> SecretStr:
        if 0 < len(value.get_secret_value()) < 32:
            raise ValueError("a secret has at least 32 characters (openssl rand -hex 32 makes one)")
        return value


class AlertSettings(Frozen):
    """Whom the guard tells, and from what on. Nobody by default: neither ``webhook`` nor ``email_to`` is set.

    A webhook gets a POST whose header X-Treadle-Signature is the HMAC-SHA256 of time stamp, dot and body under ``webhook_secret``.
    """

    least: Literal["anomaly", "block", "flag"] = "block"
    most: int = Field(default=20, ge=1, description="alerts in each window; the next one says how many were held back")
    window_seconds: float = Field(default=3600.0, gt=0)
    webhook: str = Field(default="", pattern=r"^(https?://\S+)?$")
    webhook_secret: SecretStr = SecretStr("")
    email_to: tuple[str, ...] = ()
    email_from: str = "treadle@localhost"
    smtp_host: str = "localhost"
    smtp_port: int = Field(default=25, ge=1, le=65535)
    smtp_security: Literal["none", "starttls", "tls"] = "none"
    smtp_user: str = ""
    smtp_password: SecretStr = SecretStr("")
    timeout_seconds: float = Field(default=10.0, gt=0)


class SourcesSettings(Frozen):
    """What an ingest may fetch from elsewhere, and how. Nothing but local paths unless hosts are allowed: exact names, or
    ``*.example.org`` for every name below. ``allow_private_hosts``: those that may have addresses of a private network."""

    allow_hosts: tuple[str, ...] = ()
    allow_private_hosts: tuple[str, ...] = ()
    jira_user: str = Field(default="", description="with a user the token is a basic password, without one a bearer token")
    jira_token: SecretStr = SecretStr("")
    megabytes: int = Field(default=256, ge=1, description="of one file")
    seconds: float = Field(default=60.0, gt=0, description="for one request; 30 times that for a repository")

    @field_validator("allow_hosts", "allow_private_hosts")
    @classmethod
    def _are_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            if not _HOST.fullmatch(host):
                raise ValueError(
                    f"'{host}' is no host; write a name as docs.example.org or *.example.org, without scheme and port"
                )
        return tuple(host.lower() for host in value)

    @field_validator("jira_token", mode="before")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        # A number would be refused with a sentence that shows it.
        return value if isinstance(value, SecretStr) else str(value or "")


class Settings(Frozen):
    """Everything a process of Treadle needs to know about where it runs."""

    profile: str
    home: Path
    catalog_url: str
    artifacts_url: str
    mlflow_url: str
    ray: RaySettings = RaySettings()
    serve: ServeSettings = ServeSettings()
    mlflow: MlflowSettings = MlflowSettings()
    engine: EngineSettings = EngineSettings()
    router: RouterSettings = RouterSettings()
    sources: SourcesSettings = SourcesSettings()
    alerts: AlertSettings = AlertSettings()
    models: Models

    @property
    def bases(self) -> tuple[ModelRole, ...]:
        """Every base model that is served, the first one first."""
        return (self.models.base, *self.models.bases)

    def for_base(self, name: str) -> "Settings":
        """These settings as the engine of one base has them: there is no other, and ``engine`` is its own. Raises SettingsError."""
        alone = {"bases": ()}
        if name == self.models.base.name:
            return self.model_copy(update={"models": self.models.model_copy(update=alone)})
        found = next((one for one in self.models.bases if one.name == name), None)
        if found is None:
            raise SettingsError(
                f"There is no base '{name}'; configs/models.yaml has {', '.join(one.name for one in self.bases)} (base and bases)."
            )
        models = self.models.model_copy(update={**alone, "base": ModelRole(path=found.path, name=found.name)})
        try:
            engine = found.engine.over(self.engine)
        except ValidationError as error:
            raise SettingsError(f"The engine of base '{name}' (configs/models.yaml): {error.errors()[0]['msg']}.") from None
        return self.model_copy(update={"models": models, "engine": engine})

    @property
    def ray_token(self) -> Path:
        """The file with the token of this home's Ray; one that the environment names already goes first, because a process that has
        talked to one Ray cannot change its token any more."""
        return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or self.home / "ray_token")

    @property
    def env(self) -> dict[str, str]:
        """The environment that makes another process load these settings."""
        names = ("TREADLE_SETTINGS", "TREADLE_CATALOG_URL", "TREADLE_ARTIFACTS_URL", "TREADLE_MLFLOW_URL", "RAY_AUTH_TOKEN_PATH")
        passed = {name: os.environ[name] for name in names if os.environ.get(name)}
        return {"TREADLE_HOME": str(self.home), "TREADLE_PROFILE": self.profile, **passed}


def expand(value: Any, env: Mapping[str, str], where: str) -> Any:
    """Replace ``${NAME}`` and ``${NAME:-default}`` in every string of a YAML value. A name without value or default is an error."""
    if isinstance(value, dict):
        return {key: expand(inner, env, f"{where}: {key}") for key, inner in value.items()}
    if isinstance(value, list):
        return [expand(inner, env, where) for inner in value]
    if not isinstance(value, str):
        return value

    def filled(found: re.Match[str]) -> str:
        name, default = found.group(1), found.group(2)
        text = env.get(name) or default
        if text is None:
            raise SettingsError(f"{where}: the environment has no {name}; set it, or write ${{{name}:-default}}.")
        return text

    return _PLACEHOLDER.sub(filled, value)


def read_yaml(path: Path, error: type[SettingsError] | type[RecipeError] = SettingsError) -> Any:
    """The value of a YAML file with the environment filled in. Raises ``error`` with the file and the line."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as broken:
        raise error(f"{path} cannot be read: {broken.strerror}; give the path of a YAML file.") from None
    except UnicodeDecodeError:
        raise error(f"{path} is not UTF-8 text; save it as UTF-8.") from None
    try:
        value = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # the C loader is ten times faster
    except yaml.YAMLError as broken:
        mark = getattr(broken, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise error(f"{path}{place} is not YAML: {getattr(broken, 'problem', broken)}.") from None
    return expand(value, os.environ, str(path))


def _profile(path: Path, raw: Any, chosen: str) -> dict[str, Any]:
    if not isinstance(raw, dict) or not isinstance(raw.get("profiles"), dict):
        raise SettingsError(f"{path}: the key 'profiles' is missing; copy configs/treadle.yaml and edit it.")
    for key in raw:
        if key not in ("profile", "profiles", "models"):
            close = near(str(key), ["profile", "profiles", "models"], most=1)
            raise SettingsError(f"{path}: unknown key '{key}'; did you mean '{close[0] if close else 'profiles'}'?")
    profiles = raw["profiles"]
    if chosen not in profiles:
        close = near(chosen, profiles, most=1)
        hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(profiles)}."
        raise SettingsError(f"{path}: there is no profile '{chosen}'; {hint}")
    return dict(profiles[chosen] or {})


def load_settings(path: str | Path | None = None, profile: str | None = None) -> Settings:
    """The settings of this process. Raises SettingsError naming the file, the key and the nearest valid key."""
    file = Path(path or os.environ.get("TREADLE_SETTINGS") or ROOT / "configs" / "treadle.yaml")
    raw = read_yaml(file)
    chosen = profile or str(raw.get("profile") or "laptop" if isinstance(raw, dict) else "laptop")
    values = _profile(file, raw, chosen)
    models_file = ROOT / str(raw.get("models") or "configs/models.yaml")
    models: Models = parse(Models, read_yaml(models_file), str(models_file), SettingsError)
    home = Path(os.environ.get("TREADLE_HOME") or Path.home() / ".treadle").expanduser().absolute()
    values["catalog_url"] = values.get("catalog_url") or f"sqlite:///{home}/catalog.db"
    values["artifacts_url"] = values.get("artifacts_url") or str(home / "artifacts")
    values["mlflow_url"] = values.get("mlflow_url") or f"sqlite:///{home}/mlflow.db"
    settings: Settings = parse(Settings, {**values, "profile": chosen, "home": home, "models": models}, str(file), SettingsError)
    return settings


def load_recipe(kind: Any, path: str | Path) -> Any:
    """A recipe file as its type. Raises RecipeError naming the file, the key and the nearest valid key."""
    file = Path(path)
    return parse(kind, read_yaml(file, RecipeError), str(file), RecipeError)


def load_train_recipe(path: str | Path) -> SftRecipe | DpoRecipe:
    """A recipe file of SFT or DPO, told apart by the keys that only DPO has, or by a file name that begins with ``dpo``."""
    file = Path(path)
    raw = read_yaml(file, RecipeError)
    own = set(DpoRecipe.model_fields) - set(SftRecipe.model_fields)
    pairs = file.name.startswith("dpo") or (isinstance(raw, dict) and bool(own & set(raw)))
    return parse(DpoRecipe if pairs else SftRecipe, raw, str(file), RecipeError)


def whole_tune_recipe(recipe: TuneRecipe) -> TuneRecipe:
    """The recipe with its base in it, where it names a file. Relative paths are of the working directory, else of this project."""
    if not isinstance(recipe.base, str):
        return recipe
    file = Path(recipe.base) if Path(recipe.base).is_file() else ROOT / recipe.base
    loaded = load_train_recipe(file)
    job: Literal["sft", "dpo"] = "dpo" if isinstance(loaded, DpoRecipe) else "sft"
    return recipe.model_copy(update={"base": loaded.model_dump(mode="json", exclude_unset=True), "job": job})


def rooted(recipe: Frozen) -> Frozen:
    """A recipe with its relative file paths made absolute in this project, since a job runs in a directory of its own."""
    changes: dict[str, Any] = {}
    for key in ("paths", "rows"):
        value = getattr(recipe, key, None)
        if isinstance(value, str):
            changes[key] = _rooted_path(value)
        elif value:
            changes[key] = tuple(_rooted_path(path) for path in value)
    return recipe.model_copy(update=changes)


def _rooted_path(path: str) -> str:
    if path.startswith("git+") and "://" not in path:
        return f"git+{ROOT / path.removeprefix('git+')}"
    return path if "://" in path else str(ROOT / path)


@lru_cache(maxsize=1)
def cpu_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))
