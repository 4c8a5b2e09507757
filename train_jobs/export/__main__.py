"""Export of a release: `python -m train_jobs.export --recipe configs/train/export.yaml`."""

import sys
from pathlib import Path
from typing import Any, Sequence

from cluster import job_run
from cluster.catalog import releases
from cluster.domain.recipes import ExportRecipe
from cluster.job_run import JobRun
from train_jobs.export import placing


def work(job: JobRun, recipe: ExportRecipe) -> dict[str, Any]:
    """The job's body. What is cheap to find wrong is found before torch and transformers are imported."""
    with job.catalog.reading() as reading:
        release = releases.get(reading, recipe.release)
    placing.check_place(Path(recipe.output).absolute(), release.ref)
    job.progress(0.01, "starting")
    from train_jobs.export import job as body

    return body.export(job, recipe)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code; the result is one line of JSON on stdout."""
    return job_run.main("train_jobs.export", ExportRecipe, work, argv)


if __name__ == "__main__":
    sys.exit(main())
