"""Plain text."""

from data_jobs.extract.encoding import decode
from data_jobs.extract.part import Options, Part


def extract(data: bytes, options: Options = Options()) -> list[Part]:
    """The whole file as one document without a title."""
    return [Part(text=decode(data))]
