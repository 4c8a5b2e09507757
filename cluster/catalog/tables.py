"""The tables. Private to the catalog: what is searched or joined is a column, the rest of the domain type is its JSON body."""

from sqlalchemy import JSON, BigInteger, Boolean, Column, DateTime, ForeignKey, Index, Integer, MetaData, String, Table

metadata = MetaData()

agents = Table(
    "agents",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("body", JSON, nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
)
api_keys = Table(
    "api_keys",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("user", String(64), nullable=False),
    Column("revoked", Boolean, nullable=False, default=False),
    Column("body", JSON, nullable=False),
    Column("last_used_at", DateTime(timezone=True)),
)
users = Table(
    "users",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("body", JSON, nullable=False),
)
sessions = Table(
    "sessions",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("user", String(64), nullable=False, index=True),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("body", JSON, nullable=False),
    Column("last_used_at", DateTime(timezone=True)),
)
audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("user", String(64), nullable=False, index=True),
    Column("action", String(40), nullable=False, index=True),
    Column("body", JSON, nullable=False),
)
live_settings = Table(
    "live_settings",
    metadata,
    Column("name", String(80), primary_key=True),
    Column("body", JSON, nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
)
usage = Table(
    "usage",
    metadata,
    Column("subject", String(160), primary_key=True),
    Column("period", String(24), primary_key=True),
    Column("replica", String(40), primary_key=True),
    Column("amount", BigInteger, nullable=False),
    Column("ends_at", DateTime(timezone=True), nullable=False, index=True),
)
corpora = Table(
    "corpora",
    metadata,
    Column("corpus", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("body", JSON, nullable=False),
)
datasets = Table(
    "datasets",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("name", String(64), nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("agent", String(64)),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("body", JSON, nullable=False),
)
conversations = Table(
    "conversations",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("user", String(64), nullable=False, index=True),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("body", JSON, nullable=False),
)
turns = Table(
    "turns",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("conversation_id", String(40), ForeignKey("conversations.id"), nullable=False, index=True),
    Column("user", String(64), nullable=False),
    Column("agent", String(64), nullable=False, index=True),
    Column("release", String(96)),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("body", JSON, nullable=False),
)
signals = Table(
    "signals",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("turn_id", String(40), ForeignKey("turns.id"), nullable=False, index=True),
    Column("kind", String(24), nullable=False),
    Column("user", String(64), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("curated", Boolean, nullable=False, default=False),
    Column("body", JSON, nullable=False),
)
ledger = Table(
    "ledger",
    metadata,
    Column("signal_id", String(40), ForeignKey("signals.id"), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("ref", String(128), primary_key=True),
)
question_sets = Table(
    "question_sets",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("agent", String(64)),
    Column("purpose", String(16), nullable=False),
    Column("body", JSON, nullable=False),
)
evaluations = Table(
    "evaluations",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("release", String(96), nullable=False),
    Column("question_set", String(64), nullable=False),
    Column("set_digest", String(64), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("body", JSON, nullable=False),
    Index("evaluations_of_release", "release", "question_set"),
)
releases = Table(
    "releases",
    metadata,
    Column("agent", String(64), primary_key=True),
    Column("version", String(32), primary_key=True),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("body", JSON, nullable=False),
)
aliases = Table(
    "aliases",
    metadata,
    Column("agent", String(64), primary_key=True),
    Column("alias", String(16), primary_key=True),
    Column("version", String(32), nullable=False),
)
alias_moves = Table(
    "alias_moves",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("agent", String(64), nullable=False, index=True),
    Column("alias", String(16), nullable=False),
    Column("before", String(32)),
    Column("after", String(32)),
    Column("reason", String(400), nullable=False),
    Column("moved_at", DateTime(timezone=True), nullable=False),
    Column("kind", String(16), nullable=False, server_default="move"),
)
retirements = Table(
    "retirements",
    metadata,
    Column("agent", String(64), primary_key=True),
    Column("version", String(32), primary_key=True),
    Column("reason", String(400), nullable=False),
    Column("retired_at", DateTime(timezone=True), nullable=False),
)
untold = Table(
    "untold",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("run", String(80), nullable=False, index=True),
    Column("body", JSON, nullable=False),
)
forgotten = Table(
    "forgotten",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("ref", String(400), primary_key=True),
    Column("corpus", String(64), primary_key=True),
    Column("forgotten_at", DateTime(timezone=True), nullable=False),
)
rebuilds = Table(
    "rebuilds",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("ref", String(160), primary_key=True),
    Column("reason", String(400), nullable=False),
    Column("marked_at", DateTime(timezone=True), nullable=False),
)
guard_events = Table(
    "guard_events",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("user", String(64), nullable=False, index=True),
    Column("action", String(16), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, index=True),
    Column("body", JSON, nullable=False),
)
experiments = Table(
    "experiments",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("agent", String(64), nullable=False, index=True),
    Column("state", String(16), nullable=False, index=True),
    Column("started_at", DateTime(timezone=True), nullable=False),
    Column("judged_at", DateTime(timezone=True), nullable=False),
    Column("body", JSON, nullable=False),
)
trials = Table(
    "trials",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("experiment", String(40), ForeignKey("experiments.id"), nullable=False, index=True),
    Column("arm", String(16), nullable=False),
    Column("user", String(64), nullable=False, index=True),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("body", JSON, nullable=False),
    Column("shadow", JSON(none_as_null=True)),
)
runs = Table(
    "runs",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("job", String(64), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("body", JSON, nullable=False),
)
answered_once = Table(
    "answered_once",
    metadata,
    Column("user", String(64), primary_key=True),
    Column("key", String(200), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("body", JSON),
    Column("expires_at", DateTime(timezone=True), nullable=False, index=True),
)
meters = Table(
    "meters",
    metadata,
    Column("replica", String(40), primary_key=True),
    Column("body", JSON, nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
)
