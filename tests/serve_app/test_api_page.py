"""API.md's examples run as they stand: here against the scripted engine, in test_real_engine.py against the real one."""

import asyncio
import os
import re
import subprocess

from pydantic import SecretStr

from cluster.settings import ROOT
from tests.serve_app.conftest import House
from tests.serve_app.test_answering_once import served

SECRET = "fedcba9876543210" * 2
EXAMPLES = re.findall(r"```bash\n(.*?)```", (ROOT / "API.md").read_text(), re.DOTALL)


def run_examples(url: str, key: str) -> list[str]:
    """What the examples print, each run by bash. Fails on the first that fails."""
    environment = {"PATH": os.environ["PATH"], "URL": url, "KEY": key, "TREADLE_VOICE_SECRET": SECRET, "no_proxy": "*"}
    said = []
    for example in EXAMPLES:
        script = f"set -euo pipefail\n{example}"
        done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"{example}\n{done.stdout}\n{done.stderr}"
        said.append(done.stdout)
    return said


def test_every_route_is_on_the_page_or_is_treadles_own(house: House) -> None:
    page = (ROOT / "API.md").read_text()
    own = ("/v1/signals", "/v1/turns/{turn_id}", "/v1/models/{name}")
    ours = [
        path
        for path in house.app.openapi()["paths"]
        if path.startswith(("/v1/", "/api/", "/tok", "/detok", "/metrics", "/health"))
    ]
    missing = [path for path in ours if path not in own and path not in page]
    assert len(ours) > 15
    assert missing == []


async def test_the_examples_run(house: House) -> None:
    router = house.settings.router.model_copy(update={"voice_secret": SecretStr(SECRET)})
    house.gateway.settings = house.settings.model_copy(update={"router": router})
    server, task, url = await served(house)
    try:
        said = await asyncio.to_thread(run_examples, url, house.key("root", "admin"))
    finally:
        server.should_exit = True
        await task
    assert len(said) >= 9
    assert '"finish_reason":"stop"' in said[0].replace(" ", "")
    assert said[1].rstrip().endswith("data: [DONE]")
