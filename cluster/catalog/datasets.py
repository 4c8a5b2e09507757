"""Datasets by digest and by name."""

from sqlalchemy import select

from cluster.catalog.tables import datasets
from cluster.catalog.transaction import Work
from cluster.domain.datasets import Dataset
from cluster.errors import NotFound, near


def add(work: Work, dataset: Dataset) -> bool:
    """Record a dataset; whether it is new (the same rows were not there yet)."""
    row = {
        "digest": dataset.digest,
        "name": dataset.name,
        "kind": dataset.kind,
        "agent": dataset.agent,
        "created_at": dataset.created_at,
        "body": dataset.model_dump(mode="json"),
    }
    return work.add_missing(datasets, row)


def get(work: Work, ref: str) -> Dataset:
    """By ``name`` (its newest), ``name@digest…`` or digest prefix (at least 8 characters). Raises NotFound with near names."""
    name, mark, prefix = ref.partition("@")
    statement = select(datasets.c.body).order_by(datasets.c.created_at.desc())
    if mark:
        statement = statement.where(datasets.c.name == name, datasets.c.digest.startswith(prefix))
    else:
        found = work.body(Dataset, statement.where(datasets.c.name == name))
        if found is not None:
            return found
        statement = statement.where(datasets.c.digest.startswith(ref if len(ref) >= 8 else "-"))
    found = work.body(Dataset, statement)
    if found is None:
        close = near(name, [dataset.name for dataset in everything(work)])
        hint = f"did you mean {' or '.join(close)}?" if close else "treadle data datasets shows what there is."
        raise NotFound(f"There is no dataset '{ref}'; {hint}")
    return found


def everything(work: Work) -> list[Dataset]:
    """All datasets, newest first."""
    return work.bodies(Dataset, select(datasets.c.body).order_by(datasets.c.created_at.desc()))
