"""Which run is followed instead of starting another; launching and reviving are tested on a cluster (tests/flow)."""

import pytest

from cluster.catalog import runs
from cluster.domain.data_recipes import SignalsRecipe
from cluster.domain.runs import Run
from cluster.job_submission import Submitter

RECIPE = SignalsRecipe(agent="linux")


@pytest.mark.parametrize(
    ("changes", "followed"),
    [
        ({"state": "running", "submission_id": "one"}, True),
        ({"state": "queued"}, True),
        ({"state": "running"}, False),  # started by hand: whether it lives, nobody can tell
        ({"state": "succeeded", "submission_id": "one"}, False),
        ({"state": "failed", "submission_id": "one"}, False),
        ({"state": "running", "submission_id": "one", "recipe": {"agent": "python"}}, False),
        ({"state": "running", "submission_id": "one", "job": "data_jobs.ingest"}, False),
    ],
)
def test_a_run_of_the_same_job_and_recipe_is_followed_while_it_can_be_asked_about(settings, catalog, changes, followed):
    run = Run(**{"job": "data_jobs.signals", "recipe": RECIPE.model_dump(mode="json"), **changes})
    with catalog.transaction() as work:
        runs.save(work, run)
    found = Submitter(settings, catalog)._going("data_jobs.signals", RECIPE)
    assert found == (run if followed else None)
