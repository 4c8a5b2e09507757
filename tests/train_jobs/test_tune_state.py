"""What a driver leaves that was killed while it wrote its search's state."""

import json
import pickle
from pathlib import Path

import pytest

from train_jobs import tune_state


def written(place: Path, trials: int) -> None:
    place.mkdir(exist_ok=True)
    (place / "experiment_state-1.json").write_text(json.dumps({"trial_data": list(range(trials))}))
    (place / "searcher-state-1.pkl").write_bytes(pickle.dumps({"trials": trials}))


@pytest.mark.parametrize("cut", ["experiment_state-1.json", "searcher-state-1.pkl"])
def test_a_state_cut_short_falls_back_to_the_one_before(tmp_path: Path, cut: str) -> None:
    place = tmp_path / "run"
    written(place, 3)
    tune_state.keep(place)
    written(place, 4)
    assert tune_state.mend(place)
    assert json.loads((place / "experiment_state-1.json").read_text())["trial_data"] == [0, 1, 2, 3]
    (place / cut).write_bytes((place / cut).read_bytes()[:5])
    tune_state.keep(place)  # a broken state is never the copy
    assert tune_state.mend(place)
    assert json.loads((place / "experiment_state-1.json").read_text())["trial_data"] == [0, 1, 2]
    assert pickle.loads((place / "searcher-state-1.pkl").read_bytes()) == {"trials": 3}


def test_without_a_copy_a_search_begins_anew(tmp_path: Path) -> None:
    place = tmp_path / "run"
    assert not tune_state.mend(place)
    place.mkdir()
    (place / "experiment_state-1.json").write_text("")
    assert not tune_state.mend(place)
    assert not place.exists()
