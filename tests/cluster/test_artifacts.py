import errno
import json
import shutil

import pytest

from cluster.artifacts import MANIFEST, Artifacts, read_rows_file, write_whole
from cluster.domain.datasets import SftRow
from cluster.errors import IntegrityError, NotFound, Unavailable


@pytest.fixture
def files(tmp_path):
    made = tmp_path / "files"
    (made / "sub").mkdir(parents=True)
    (made / "a.bin").write_bytes(b"one")
    (made / "sub" / "b.bin").write_bytes(b"two")
    return made


def test_a_bundle_is_content_addressed(artifacts, files):
    one, two = artifacts.publish("adapter", files), artifacts.publish("adapter", files)
    assert one == two
    assert (artifacts.fetch(one.uri, one.digest) / "sub" / "b.bin").read_bytes() == b"two"


def test_without_its_manifest_a_bundle_does_not_exist(artifacts, files):
    bundle = artifacts.publish("adapter", files)
    (artifacts.fetch(bundle.uri) / MANIFEST).unlink()
    with pytest.raises(NotFound, match="no whole bundle"):
        artifacts.fetch(bundle.uri)
    assert artifacts.publish("adapter", files) == bundle  # and can be published again
    assert artifacts.fetch(bundle.uri).is_dir()


def test_changed_bytes_are_noticed(artifacts, files):
    bundle = artifacts.publish("adapter", files)
    (artifacts.fetch(bundle.uri) / "a.bin").write_bytes(b"tampered")
    with pytest.raises(IntegrityError, match=r"a\.bin .* has changed"):
        artifacts.fetch(bundle.uri)


def test_another_bundle_than_recorded_is_refused(artifacts, files):
    bundle = artifacts.publish("adapter", files)
    with pytest.raises(IntegrityError, match="as recorded"):
        artifacts.fetch(bundle.uri, "0" * 64)


def test_a_full_disk_leaves_nothing_behind(artifacts, files, monkeypatch, settings):
    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(Unavailable, match="the disk is full; nothing was kept"):
        artifacts.publish("adapter", files)
    assert list((settings.home / "artifacts" / "adapter").iterdir()) == []


def test_a_remote_store_works_the_same(files, tmp_path):
    store = Artifacts("memory://store", tmp_path / "cache")
    bundle = store.publish("adapter", files)
    assert (store.fetch(bundle.uri, bundle.digest) / "a.bin").read_bytes() == b"one"


def test_a_spoilt_copy_of_a_remote_bundle_is_read_again(files, tmp_path):
    store = Artifacts("memory://spoilt", tmp_path / "cache")
    bundle = store.publish("adapter", files)
    (store.fetch(bundle.uri, bundle.digest) / "a.bin").write_bytes(b"two")
    with pytest.raises(IntegrityError, match=r"a\.bin"):
        store.fetch(bundle.uri, bundle.digest)
    assert (store.fetch(bundle.uri, bundle.digest) / "a.bin").read_bytes() == b"one"


def test_rows_come_back(artifacts):
    rows = [SftRow(question="q", answer="a", source="x"), SftRow(question="ä", answer="→", source="y")]
    assert artifacts.read_rows(artifacts.write_rows(rows).uri) == rows


def test_a_broken_row_is_named_by_line(tmp_path):
    file = tmp_path / "rows.jsonl"
    good = SftRow(question="q", answer="a", source="x").model_dump_json()
    file.write_text(f"{good}\n{json.dumps({'kind': 'sft', 'question': 'q', 'source': 's'})}\n")
    with pytest.raises(IntegrityError, match=r"line 2 is not a dataset row: .*answer"):
        read_rows_file(file)


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    file = tmp_path / "f"
    write_whole(file, b"one")
    with pytest.raises(TypeError):
        write_whole(file, "no bytes")
    assert file.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [file]
