"""Supervised fine-tuning of a LoRA adapter: `python -m train_jobs.sft --recipe configs/train/sft.yaml`."""

import sys
from typing import Sequence

from cluster import job_run
from cluster.domain.recipes import SftRecipe
from train_jobs import training


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code; the result is one line of JSON on stdout."""
    return job_run.main("train_jobs.sft", SftRecipe, training.train, argv)


if __name__ == "__main__":
    sys.exit(main())
