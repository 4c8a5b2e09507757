"""Figures are gathered, none is lost, and a loss that is no number ends the run."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from train_jobs import reporter
from train_jobs.reporter import Reporter

Sent = list[tuple[dict[str, Any], Path | None]]


def run(sent: Sent, losses: list[float], monkeypatch: pytest.MonkeyPatch, seconds: float) -> tuple[Reporter, Any]:
    monkeypatch.setattr(reporter, "_SEND_SECONDS", seconds)
    made = Reporter(lambda report, folder: sent.append((report, folder)), tokens_per_step=100.0)
    control = SimpleNamespace(should_training_stop=False, should_save=True)
    state = SimpleNamespace(global_step=0, max_steps=len(losses))
    made.on_train_begin(None, state, control)
    for number, loss in enumerate(losses, 1):
        state.global_step = number
        made.on_step_end(None, state, control)
        made.on_log(None, state, control, {"loss": loss, "grad_norm": 1.0})
        if control.should_training_stop:
            break
    return made, control


def test_points_between_reports_come_with_the_next_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sent: Sent = []
    made, _ = run(sent, [5.0, 4.0, 3.0, 2.0], monkeypatch, 3600.0)
    assert [report["step"] for report, _ in sent] == [1]
    made.send(4, tmp_path, done=True)
    assert sent[1][1] == tmp_path
    assert [(point["step"], point["loss"]) for report, _ in sent for point in report["points"]] == [
        (1, 5.0),
        (2, 4.0),
        (3, 3.0),
        (4, 2.0),
    ]
    assert sent[1][0]["done"] is True


def test_each_step_is_told_when_there_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: Sent = []
    run(sent, [3.0, 2.0, 1.0], monkeypatch, 0.0)
    assert [report["step"] for report, _ in sent] == [1, 2, 3]
    last = sent[-1][0]
    assert last["seconds_left"] == 0.0
    assert last["tokens_per_s"] > 0
    assert last["memory_gb"] > 0
    assert "mfu" not in last  # there is no GPU whose peak is known


def test_held_out_figures_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: Sent = []
    made, control = run(sent, [3.0], monkeypatch, 3600.0)
    made.measured(2, {"eval_loss": 2.5})
    made.on_log(None, SimpleNamespace(global_step=2, max_steps=9), control, {"loss": 2.0})
    assert sent[-1][0]["eval_loss"] == 2.5


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_and_saves_nothing(monkeypatch: pytest.MonkeyPatch, loss: float) -> None:
    sent: Sent = []
    made, control = run(sent, [3.0, loss, 1.0], monkeypatch, 0.0)
    assert control.should_training_stop
    assert not control.should_save
    assert made.broken is not None
    assert "at step 2; lower learning_rate or max_grad_norm" in made.broken
    assert [report["step"] for report, _ in sent] == [1]
