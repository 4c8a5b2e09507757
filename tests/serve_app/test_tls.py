"""HTTPS by a real server: the certificate that is shown, who trusts it, and when it is made anew."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cluster import tls
from cluster.cli.chat import ask
from cluster.cli.console import Home
from cluster.domain.parsing import parse
from cluster.errors import SettingsError
from cluster.ray_lifecycle import ClusterState, state_file
from cluster.settings import Settings, TlsSettings
from tests.serve_app.conftest import House, chat


def secured(settings: Settings, **given: Any) -> Settings:
    served = settings.serve.model_copy(update={"tls": parse(TlsSettings, given, "serve.tls", SettingsError)})
    return settings.model_copy(update={"serve": served})


@asynccontextmanager
async def serving(app: Any, pair: tuple[Path, Path]) -> AsyncIterator[str]:
    """The address of a server with this certificate. Ray Serve's proxy hands the same two options to the same server."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="error", lifespan="off", ssl_certfile=str(pair[0]), ssl_keyfile=str(pair[1]))
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield f"https://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


async def test_this_homes_clients_trust_its_certificate_and_others_do_not(house: House, tmp_path: Path) -> None:
    settings = secured(house.settings, self_signed=True)
    pair = tls.files(settings)
    assert pair is not None
    assert pair[1].stat().st_mode & 0o777 == 0o600
    key = house.key("ada")
    elsewhere = secured(house.settings.model_copy(update={"home": tmp_path / "elsewhere"}), self_signed=True)
    async with serving(house.app, pair) as address:
        async with httpx.AsyncClient(verify=tls.trust(settings), headers={"Authorization": f"Bearer {key}"}) as client:
            answer = await client.post(f"{address}/v1/chat/completions", json=chat("linux"))
            assert answer.status_code == 200
        for verify in (True, tls.trust(elsewhere)):
            async with httpx.AsyncClient(verify=verify) as client:
                with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                    await client.get(f"{address}/health")
        state_file(settings).write_text(ClusterState(address="x", dashboard="x", serve=address).model_dump_json())
        home = Home()
        home.__dict__.update(settings=settings, catalog=house.catalog)
        said = await asyncio.to_thread(ask, home, "linux", [{"role": "user", "content": "list the files"}], stream=False)
        assert "heard" in said["answer"]


def test_a_certificate_is_kept_until_it_ends_or_is_for_another_host(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    own = secured(settings, self_signed=True)
    pair = tls.files(own)
    assert pair is not None
    first = pair[0].read_bytes()
    assert tls.files(own) == pair
    assert pair[0].read_bytes() == first
    held = x509.load_pem_x509_certificate(first)
    names = held.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "localhost" in names.get_values_for_type(x509.DNSName)
    later = held.not_valid_after_utc - timedelta(days=29)
    with monkeypatch.context() as patched:
        patched.setattr(tls, "now", lambda: later)
        tls.files(own)
    second = pair[0].read_bytes()
    assert second != first
    moved = own.model_copy(update={"serve": own.serve.model_copy(update={"host": "treadle.example.org"})})
    tls.files(moved)
    third = x509.load_pem_x509_certificate(pair[0].read_bytes())
    assert third.public_bytes(Encoding.PEM) != second
    pair[1].write_text("broken")
    tls.files(moved)
    assert b"PRIVATE KEY" in pair[1].read_bytes()


def test_files_that_cannot_be_used_are_one_sentence(settings: Settings, tmp_path: Path) -> None:
    pair = tls.files(secured(settings, self_signed=True))
    other = tls.files(secured(settings.model_copy(update={"home": tmp_path / "other"}), self_signed=True))
    assert pair is not None
    assert other is not None
    own = {"certificate": str(pair[0]), "key": str(pair[1])}
    assert tls.files(secured(settings, **own)) == pair
    for wrong in ({**own, "key": str(other[1])}, {**own, "key": "/nowhere.pem"}, {**own, "certificate": str(pair[1])}):
        with pytest.raises(SettingsError, match="cannot be used"):
            tls.files(secured(settings, **wrong))
    for unclear in ({}, {"certificate": "c.pem"}, {**own, "self_signed": True}):
        with pytest.raises(SettingsError, match="certificate and key, or self_signed"):
            secured(settings, **unclear)


def test_without_settings_it_is_plain_http(settings: Settings) -> None:
    assert tls.scheme(settings) == "http"
    assert tls.files(settings) is None
    assert tls.trust(settings) is True
    assert not (settings.home / "tls").exists()
