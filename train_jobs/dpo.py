"""Direct preference optimisation of an adapter: `python -m train_jobs.dpo --recipe configs/train/dpo.yaml`.

Continues the parent's adapter, which is also the reference (Rafailov et al., 2023, arXiv:2305.18290). ``sft_weight`` keeps the chosen
answers likely in themselves, not only likelier than the rejected ones (the RPO term of Pang et al., 2024, arXiv:2404.19733): a small
model degenerates without it.
"""

import sys
from typing import Sequence

from cluster import job_run
from cluster.domain.recipes import DpoRecipe
from train_jobs import training


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code; the result is one line of JSON on stdout."""
    return job_run.main("train_jobs.dpo", DpoRecipe, training.train, argv)


if __name__ == "__main__":
    sys.exit(main())
