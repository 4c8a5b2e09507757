"""Files of every format, made on the spot; and a Ray that belongs to the tests alone."""

import atexit
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.catalog import Catalog, runs
from cluster.domain.documents import Document
from cluster.domain.runs import Run
from cluster.job_run import JobRun
from cluster.settings import Settings
from data_jobs.wash import text_digest
from tests.data_jobs.repositories import Made

PARAGRAPH = (
    "Oak House stands at the north end of the square and has twelve flats on three floors. The caretaker lives on the ground floor "
    "and answers the bell from eight to six. Parcels that do not fit a letter box are kept in the porter's room for ten days."
)


class Files:
    """Writes files into a directory; each method returns the path."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def raw(self, name: str, data: bytes | str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def pdf(self, name: str, pages: list[list[str]], password: str | None = None, title: str = "") -> Path:
        from reportlab.pdfgen.canvas import Canvas

        canvas = Canvas(str(self.root / name), encrypt=password)
        if title:
            canvas.setTitle(title)
        for lines in pages:
            for number, line in enumerate(lines):
                canvas.drawString(72, 750 - 16 * number, line)
            canvas.showPage()
        canvas.save()
        return self.root / name

    def docx(self, name: str, build: Callable[[Any], None]) -> Path:
        import docx

        document = docx.Document()
        build(document)
        document.save(str(self.root / name))
        return self.root / name


@pytest.fixture
def files(tmp_path: Path) -> Files:
    (tmp_path / "files").mkdir()
    return Files(tmp_path / "files")


@pytest.fixture
def document() -> Callable[..., Document]:
    def make(text: str, media_type: str = "text/markdown", title: str = "", source: str = "a.md") -> Document:
        return Document(
            id="doc_1", corpus="c", source=source, media_type=media_type, title=title, text=text, digest=text_digest(text)
        )

    return make


@pytest.fixture
def job(settings: Settings) -> Iterator[JobRun]:
    """What a job is given: a run in a real catalog, a real artifact store, in a home of its own."""
    catalog = Catalog(settings.catalog_url).prepare()
    run = Run(job="data_jobs.ingest", state="running")
    with catalog.transaction() as work:
        runs.save(work, run)
    catalog.close()
    made = JobRun(settings, run)
    yield made
    made.catalog.close()


@pytest.fixture(scope="module")
def small_ray(request: pytest.FixtureRequest) -> Iterator[None]:
    """Ray inside this process: two CPUs, its own directory and ports. Starting it is slow, so it ends with the last module that
    asks for it."""
    import ray

    if not ray.is_initialized():
        _start(ray)
    yield
    users = [item.getparent(pytest.Module) for item in request.session.items if "small_ray" in getattr(item, "fixturenames", ())]
    if users[-1] is request.node:
        ray.shutdown()


def _start(ray: Any) -> None:
    # Ray's sockets lie below this directory, and pytest's own is too deep for them.
    scratch = tempfile.TemporaryDirectory(prefix="tdl", ignore_cleanup_errors=True)
    atexit.register(scratch.cleanup)
    options = {"address": "local", "num_cpus": 2, "include_dashboard": False, "object_store_memory": 256 << 20}
    for attempt in range(3):
        try:
            ray.init(**options, log_to_driver=False, _temp_dir=f"{scratch.name}/{attempt}")
        except Exception:  # Ray raises just this when a busy machine takes more than 30 s to start its raylet
            ray.shutdown()
            if attempt == 2:
                raise
        else:
            return


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path / "made")
