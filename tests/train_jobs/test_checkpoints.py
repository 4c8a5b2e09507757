"""A checkpoint is used when it is whole, and passed over with a sentence when it is not."""

from pathlib import Path

import pytest

from train_jobs import checkpoints


def made(folder: Path, step: int, ranks: int = 1) -> Path:
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(bytes([step]) * 100)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "trainer_state.json").write_text("{}")
    for rank in range(ranks):
        (folder / f"optimizer-{rank}.pt").write_bytes(bytes([rank]) * 50)
        checkpoints.seal(folder, rank, ranks, step)
    return folder


def test_the_newest_whole_one_is_taken(tmp_path: Path) -> None:
    new, old = made(tmp_path / "b", 20, ranks=2), made(tmp_path / "a", 10, ranks=2)
    assert checkpoints.newest_whole([new, old]) == (new, [])
    assert checkpoints.step_of(new) == 20


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda folder: (folder / "optimizer-1.pt").unlink(), "optimizer-1.pt is missing"),
        (lambda folder: (folder / "optimizer-0.pt").write_bytes(b"x" * 20), "optimizer-0.pt has changed"),
        (lambda folder: (folder / "sealed-1.json").unlink(), "sealed-1.json is missing or cut short"),
        (lambda folder: (folder / "sealed-0.json").write_text('{"step": 2'), "sealed-0.json is missing or cut short"),
    ],
    ids=["missing", "cut", "rank", "seal"],
)
def test_a_broken_one_is_passed_over(tmp_path: Path, harm: object, says: str) -> None:
    new, old = made(tmp_path / "b", 20, ranks=2), made(tmp_path / "a", 10, ranks=2)
    harm(new)  # type: ignore[operator]
    found, passed = checkpoints.newest_whole([new, old])
    assert found == old
    assert len(passed) == 1
    assert says in passed[0]
    assert "the one before" in passed[0]


def test_an_adapter_without_the_trainers_state_is_nothing_to_go_on_from(tmp_path: Path) -> None:
    final, old = tmp_path / "b", made(tmp_path / "a", 10)
    final.mkdir()
    (final / "adapter_model.safetensors").write_bytes(b"x")
    checkpoints.seal(final, 0, 1, 20)
    assert checkpoints.newest_whole([final, old]) == (old, [])


def test_nothing_whole_is_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    assert checkpoints.newest_whole([folder])[0] is None


def test_the_adapter_alone_is_taken_out(tmp_path: Path) -> None:
    checkpoints.take_adapter(made(tmp_path / "a", 1), tmp_path / "out")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"adapter_model.safetensors", "adapter_config.json"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"checkpoint_results": [{"checkpoint_dir_n', "is cut short"),
        ("[]", "is cut short"),
        ('{"checkpoint_results": [{"checkpoint_dir_name": "b"}]}', "names b, which is gone"),
    ],
    ids=["cut", "shape", "gone"],
)
def test_a_list_that_ray_would_refuse_is_removed(tmp_path: Path, text: str, says: str) -> None:
    place = tmp_path / "checkpoint_manager_snapshot.json"
    place.write_text(text)
    assert says in str(checkpoints.forget_broken_list(str(tmp_path)))
    assert not place.exists()


def test_a_list_that_is_right_stays(tmp_path: Path) -> None:
    assert checkpoints.forget_broken_list(str(tmp_path / "none")) is None
    made(tmp_path / "a", 1)
    place = tmp_path / "checkpoint_manager_snapshot.json"
    place.write_text('{"checkpoint_results": [{"checkpoint_dir_name": "a"}]}')
    assert checkpoints.forget_broken_list(str(tmp_path)) is None
    assert place.exists()
