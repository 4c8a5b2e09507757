"""Opening the catalog, and the transaction that everything runs in.

SQLite runs in WAL mode with ``BEGIN IMMEDIATE`` for writers (a deferred transaction that turns into a write fails with "database is
locked" instead of waiting) and ``synchronous=FULL``: an acknowledged write survives a power cut. PostgreSQL is used as it is.
"""

from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, TypeVar

from pydantic import BaseModel
from sqlalchemy import Connection, Engine, Table, create_engine, event, inspect
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DataError, DBAPIError, OperationalError

from cluster.errors import InvalidInput, Unavailable

T = TypeVar("T", bound=BaseModel)
LOCK_WAIT_MS = 30_000


class Work:
    """One transaction, as the files of the catalog use it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def run(self, statement: Any) -> Any:
        """Execute a SQLAlchemy statement in this transaction."""
        return self.connection.execute(statement)

    def bodies(self, kind: type[T], statement: Any) -> list[T]:
        """The JSON bodies (first column) of a select, as domain types."""
        return [kind.model_validate(row[0]) for row in self.run(statement)]

    def body(self, kind: type[T], statement: Any) -> T | None:
        """The first body of a select, or None."""
        row = self.run(statement).first()
        return None if row is None else kind.model_validate(row[0])

    def put(self, table: Table, values: dict[str, Any]) -> None:
        """Insert the row, or replace the one with the same primary key."""
        statement: Any = self._insert(table).values(**values)
        keys = [column.name for column in table.primary_key]
        rest = {name: statement.excluded[name] for name in values if name not in keys}
        if rest:
            self.run(statement.on_conflict_do_update(index_elements=keys, set_=rest))
        else:
            self.run(statement.on_conflict_do_nothing(index_elements=keys))

    def add_missing(self, table: Table, values: dict[str, Any]) -> bool:
        """Insert the row unless its primary key is taken; whether it was inserted."""
        keys = [column.name for column in table.primary_key]
        statement = self._insert(table).values(**values).on_conflict_do_nothing(index_elements=keys)
        # Without the option the count of an insertion is -1 on PostgreSQL.
        done = self.connection.execute(statement, execution_options={"preserve_rowcount": True})
        return bool(done.rowcount > 0)

    def serialise(self, table: Table) -> None:
        """From here to the end of the transaction no other one writes to the table or asks for the same; reading goes on.

        SQLite has one writer anyway; PostgreSQL would let two transactions read the same row before either changes it.
        """
        if self.connection.dialect.name == "postgresql":
            self.connection.exec_driver_sql(f"LOCK TABLE {table.name} IN SHARE ROW EXCLUSIVE MODE")

    def _insert(self, table: Table) -> Any:
        return sqlite_insert(table) if self.connection.dialect.name == "sqlite" else postgres_insert(table)


class Catalog:
    """A database of Treadle's words. Cheap to open; safe to share between threads."""

    def __init__(self, url: str) -> None:
        self.url = url
        parsed = make_url(url)
        self._sqlite = parsed.get_backend_name() == "sqlite"
        if self._sqlite and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        self._engine = self._open(url)

    def _open(self, url: str) -> Engine:
        if not self._sqlite:
            return create_engine(url, pool_pre_ping=True)
        engine = create_engine(url, connect_args={"timeout": LOCK_WAIT_MS / 1000, "check_same_thread": False})

        @event.listens_for(engine, "connect")
        def _prepare(connection: Any, _record: Any) -> None:
            connection.isolation_level = None  # this module says BEGIN itself
            cursor = connection.cursor()
            for pragma in (f"busy_timeout={LOCK_WAIT_MS}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

        return engine

    def prepare(self) -> "Catalog":
        """Bring the schema to the newest revision (does nothing when it is there). Returns self."""
        from cluster.catalog.migrations import HEAD, upgrade

        with self.reading() as work:
            if inspect(work.connection).has_table("alembic_version"):
                row = work.connection.exec_driver_sql("SELECT version_num FROM alembic_version").first()
                if row is not None and row[0] == HEAD:
                    return self
        with self.transaction() as work:
            upgrade(work.connection)
        return self

    @contextmanager
    def transaction(self) -> Iterator[Work]:
        """A writing transaction: committed at the end of the block, rolled back when it raises."""
        with self._connected("BEGIN IMMEDIATE") as work:
            yield work

    @contextmanager
    def reading(self) -> Iterator[Work]:
        """A transaction that only reads; never waits for writers on SQLite."""
        with self._connected("BEGIN") as work:
            yield work

    @contextmanager
    def _connected(self, begin: str) -> Iterator[Work]:
        try:
            with self._engine.connect() as connection:
                if self._sqlite:
                    connection.exec_driver_sql(begin)
                work = Work(connection)
                try:
                    yield work
                except BaseException:
                    connection.rollback()
                    raise
                connection.commit()
        except OperationalError as error:
            raise Unavailable(
                f"The catalog {self.place} cannot be used: {_line(error)}; check its disk, path and server."
            ) from None
        except DataError as error:
            raise InvalidInput(f"The catalog cannot hold a value of this request: {_line(error)}; send another.") from None
        except DBAPIError as error:
            raise Unavailable(f"The catalog {self.place} refused a statement: {_line(error)}.") from None

    @property
    def place(self) -> str:
        """The URL without its password, for messages."""
        return make_url(self.url).render_as_string(hide_password=True)

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()


def _line(error: DBAPIError) -> str:
    """What the database says, without its line breaks."""
    return " ".join(str(error.orig).split())
