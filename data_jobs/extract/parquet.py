"""Parquet files: each row a document. One row group is read after another, so a broken one does not cost the others."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from data_jobs.extract.arrow import rows_of
from data_jobs.extract.part import Encrypted, Options, Part, Unreadable
from data_jobs.extract.record import finished

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_ENCRYPTED = b"PARE"
_ROWS = 1_000


def extract(data: bytes, options: Options = Options()) -> list[Part]:
    """One document a row, named by its number from 1. Columns of bytes are left out and named in ``meta["left_out"]``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if data.startswith(_ENCRYPTED):
        raise Encrypted("the Parquet file is encrypted; write it without encryption")
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        return finished(_parts(file, options))
    except MemoryError:  # Arrow's own is one of its other errors, too
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        said = str(error).partition("\n")[0].rstrip(".")
        raise Unreadable(f"the Parquet file cannot be opened ({said}); it may be cut off, so copy or write it again") from None


def _parts(file: "pq.ParquetFile", options: Options) -> Iterator[Part]:
    first = 1
    for group in range(file.metadata.num_row_groups):
        batches = file.iter_batches(batch_size=_ROWS, row_groups=[group], use_threads=False)
        yield from rows_of(batches, file.schema_arrow, options, first)
        first += file.metadata.row_group(group).num_rows
