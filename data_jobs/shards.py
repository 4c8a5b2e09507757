"""Parquet files of work that is done: what a step has made of its input is kept under the input's key, so that no run makes it twice.

A shard is there whole or not at all. Any fsspec URL serves as root; every node of a cluster must reach it.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from cluster.artifacts import write_whole
from cluster.errors import Unavailable

_KEYS = b"treadle.keys"


class Shards:
    """The shards below ``root``. Each names the keys of the inputs that it holds the results of."""

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")
        self._local = "://" not in self.root

    def write(self, name: str, table: Any, keys: Sequence[str]) -> None:
        """Keeps ``table`` (pyarrow) as shard ``name``. Raises Unavailable when the store cannot be written."""
        import pyarrow
        import pyarrow.parquet as parquet

        table = table.replace_schema_metadata({_KEYS: json.dumps(list(keys)).encode()})
        buffer = pyarrow.BufferOutputStream()
        parquet.write_table(table, buffer, compression="zstd", compression_level=1, row_group_size=4096)
        data = buffer.getvalue().to_pybytes()
        try:
            if self._local:
                write_whole(Path(self._place(name)), data)
            else:
                filesystem, place = self._remote(name)
                with filesystem.open(place, "wb") as file:
                    file.write(data)
        except OSError as error:
            raise Unavailable(
                f"The shard {self._place(name)} cannot be written ({error}); give the store space and rights."
            ) from None

    def keys(self, name: str) -> list[str] | None:
        """The keys that the shard holds; None when it does not exist or cannot be read."""
        import pyarrow.parquet as parquet

        try:
            with self._opened(name) as file:
                metadata = parquet.read_schema(file).metadata or {}
            return list(json.loads(metadata[_KEYS]))
        except (OSError, ValueError, KeyError):
            return None

    def batches(self, name: str, columns: Sequence[str]) -> Iterator[Any]:
        """The shard's record batches, only these columns."""
        import pyarrow.parquet as parquet

        with self._opened(name) as file:
            yield from parquet.ParquetFile(file).iter_batches(batch_size=1024, columns=list(columns))

    def rows(self, name: str, columns: Sequence[str], column: str, values: Collection[str]) -> Iterator[dict[str, Any]]:
        """The shard's rows whose ``column`` is one of ``values``."""
        import pyarrow
        import pyarrow.compute as compute

        wanted = pyarrow.array(list(values), pyarrow.large_string())
        for batch in self.batches(name, columns):
            yield from batch.filter(compute.is_in(batch.column(column), wanted)).to_pylist()

    def has(self, name: str, column: str) -> bool:
        """Whether the shard has this column."""
        import pyarrow.parquet as parquet

        with self._opened(name) as file:
            return column in parquet.read_schema(file).names

    def names(self) -> list[str]:
        """All shards, in order of name."""
        if self._local:
            return sorted(file.stem for file in Path(self.root).glob("*.parquet") if not file.name.startswith("."))
        filesystem, place = self._remote("")
        found = filesystem.glob(f"{place.rsplit('/', 1)[0]}/*.parquet")
        return sorted(Path(one).stem for one in found)

    def remove(self, names: Collection[str]) -> None:
        """Deletes these shards; ones that are gone already are no error."""
        for name in names:
            if self._local:
                Path(self._place(name)).unlink(missing_ok=True)
            else:
                filesystem, place = self._remote(name)
                if filesystem.exists(place):
                    filesystem.rm_file(place)

    def _place(self, name: str) -> str:
        return f"{self.root}/{name}.parquet"

    def _opened(self, name: str) -> Any:
        if self._local:
            return Path(self._place(name)).open("rb")
        filesystem, place = self._remote(name)
        return filesystem.open(place, "rb")

    def _remote(self, name: str) -> tuple[Any, str]:
        import fsspec

        filesystem, place = fsspec.core.url_to_fs(self._place(name))
        return filesystem, str(place)
