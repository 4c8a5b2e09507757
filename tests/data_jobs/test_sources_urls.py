"""Files at addresses: what is allowed, what is fetched, what is not fetched again. Against a real server on this machine."""

import ipaddress
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import Conflict, InvalidInput, SettingsError, TreadleError, Unavailable
from cluster.settings import SourcesSettings, load_settings
from data_jobs.sources import Gathered, gather
from data_jobs.sources.found import shown
from data_jobs.sources.pinned import addresses, is_public, listed, target
from data_jobs.sources.spool import alone

Handler = BaseHTTPRequestHandler
LOCAL = SourcesSettings(allow_hosts=("127.0.0.1", "localhost"), allow_private_hosts=("127.0.0.1", "localhost"), seconds=5)


class Site:
    """A web server whose paths are functions; it keeps what it was asked."""

    def __init__(self) -> None:
        self.paths: dict[str, Callable[[Handler], None]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        site = self

        class Answering(Handler):
            def do_GET(self) -> None:  # noqa: N802
                site.asked.append((self.path, {key.lower(): value for key, value in self.headers.items()}))
                site.paths.get(self.path.partition("?")[0], lambda handler: handler.send_error(404))(self)

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def page(self, path: str, body: bytes = b"hello", status: int = 200, **headers: str) -> str:
        def answer(handler: Handler) -> None:
            handler.send_response(status)
            for key, value in {"Content_Length": str(len(body)), **headers}.items():
                if value:
                    handler.send_header(key.replace("_", "-"), value)
            handler.end_headers()
            handler.wfile.write(body)

        self.paths[path] = answer
        return self.url(path)


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.server.shutdown()
    made.server.server_close()


def fetched(spool: Path, *urls: str, settings: SourcesSettings = LOCAL) -> Gathered:
    return gather(urls, spool, settings)


def test_a_page_is_a_file_with_the_ending_of_its_path_or_type(site: Site, tmp_path: Path) -> None:
    urls = [
        site.page("/a.md", b"# A"),
        site.page("/b", b"<p>B", Content_Type="text/html; charset=utf-8"),
        site.page("/c.php", b"<p>C", Content_Type="text/html"),
        site.page("/d.xyz", b"D"),
        site.page("/e/caf\u00e9", b"E").replace("é", "%C3%A9"),
    ]
    site.page("/e/caf%C3%A9", b"E", Content_Type="text/plain")
    gathered = fetched(tmp_path, *urls, site.page("/f.txt") + "?lang=en&access_token=abc#part")
    assert {one.source: Path(one.path).suffix for one in gathered.files} == {
        **dict(zip(urls, [".md", ".html", ".html", ".xyz", ".txt"], strict=True)),
        site.url("/f.txt") + "?lang=en&access_token=…": ".txt",
    }
    assert [Path(one.path).read_bytes() for one in gathered.files] == [b"# A", b"<p>B", b"<p>C", b"D", b"E", b"hello"]
    assert gathered.files[0].bytes == 3
    assert not gathered.refused


def test_an_unchanged_page_is_not_sent_again(site: Site, tmp_path: Path) -> None:
    def answer(handler: Handler) -> None:
        known = (
            handler.headers["If-None-Match"] == '"1"' and handler.headers["If-Modified-Since"] == "Mon, 01 Jan 2024 00:00:00 GMT"
        )
        handler.send_response(304 if known else 200)
        handler.send_header("ETag", '"1"')
        handler.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        if not known:
            handler.send_header("Content-Length", "3")
        handler.end_headers()
        if not known:
            handler.wfile.write(b"one")

    site.paths["/a.txt"] = answer
    first = fetched(tmp_path, site.url("/a.txt"))
    written = Path(first.files[0].path).stat().st_mtime_ns
    assert fetched(tmp_path, site.url("/a.txt")) == first
    assert Path(first.files[0].path).stat().st_mtime_ns == written
    site.page("/a.txt", b"two")
    assert Path(fetched(tmp_path, site.url("/a.txt")).files[0].path).read_bytes() == b"two"
    Path(first.files[0].path).unlink()
    site.paths["/a.txt"] = answer
    assert Path(fetched(tmp_path, site.url("/a.txt")).files[0].path).read_bytes() == b"one"


def test_redirects_are_followed_five_times_and_only_to_allowed_hosts(site: Site, tmp_path: Path) -> None:
    for number in range(6):
        site.page(f"/{number}", status=302, Location=f"/{number + 1}")
    site.page("/6", b"end", Content_Type="text/plain")
    assert fetched(tmp_path, site.url("/1")).files[0].source == site.url("/1")
    with pytest.raises(Unavailable, match="leads on more than 5 times"):
        fetched(tmp_path, site.url("/0"))
    site.page("/away", status=301, Location="http://elsewhere.example/x")
    with pytest.raises(InvalidInput, match=r"The host 'elsewhere.example' is not allowed; add it to allow_hosts"):
        fetched(tmp_path, site.url("/away"))
    site.page("/file", status=301, Location="file:///etc/passwd")
    with pytest.raises(TreadleError, match="is not an address"):
        fetched(tmp_path, site.url("/file"))


def test_a_private_address_needs_its_hosts_name(site: Site, tmp_path: Path) -> None:
    allowed = SourcesSettings(allow_hosts=("localhost",))
    url = site.page("/a.txt").replace("127.0.0.1", "localhost")
    with pytest.raises(InvalidInput, match=r"'localhost' has the address \S+, which is not a public one"):
        fetched(tmp_path, url, settings=allowed)
    assert not site.asked
    site.page("/b.txt", status=302, Location=url)
    half = SourcesSettings(allow_hosts=("localhost", "127.0.0.1"), allow_private_hosts=("127.0.0.1",))
    gathered = fetched(tmp_path, site.url("/b.txt"), site.url("/a.txt"), settings=half)
    assert [(one.source, one.reason) for one in gathered.refused] == [(site.url("/b.txt"), "not_allowed")]
    assert [path for path, _ in site.asked] == ["/b.txt", "/a.txt"]


def test_the_connection_goes_to_the_address_that_was_looked_at(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that resolves to another address the second time: it is not resolved a second time."""
    real, times = socket.getaddrinfo, []

    def changing(host: str, *rest: Any, **named: Any) -> Any:
        if host == "rebinding.example":
            times.append(host)
            host = "127.0.0.1" if len(times) == 1 else "127.0.0.9"
        return real(host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", changing)
    site.page("/a.txt")
    names = ("rebinding.example",)
    gathered = fetched(
        tmp_path,
        f"http://rebinding.example:{site.port}/a.txt",
        settings=SourcesSettings(allow_hosts=names, allow_private_hosts=names),
    )
    assert len(gathered.files) == len(times) == 1
    assert site.asked[0][1]["host"] == f"rebinding.example:{site.port}"


def test_a_server_must_show_a_certificate_that_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=t",
        "-addext",
        "subjectAltName=DNS:localhost",
    ]
    subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    named: list[str] = []
    context.sni_callback = lambda _, name, __: named.append(name)
    secure = Site()
    secure.server.socket = context.wrap_socket(secure.server.socket, server_side=True)
    secure.page("/a.txt")
    url = f"https://localhost:{secure.port}/a.txt"
    with pytest.raises(Unavailable, match=r"certificate verify failed"):
        fetched(tmp_path / "spool", url)
    assert not secure.asked
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert fetched(tmp_path / "spool", url).files[0].bytes == 5
    assert set(named) == {"localhost"}
    with pytest.raises(Unavailable, match=r"certificate is not valid for '127\.0\.0\.1'"):
        fetched(tmp_path / "spool", url.replace("localhost", "127.0.0.1"))
    secure.server.shutdown()
    secure.server.server_close()


@pytest.mark.parametrize(
    ("body", "headers", "says"),
    [
        (b"x" * 1_000_001, {}, "has 1,000,001 bytes, more than the 1,000,000"),
        (b"x" * 1_000_001, {"Content_Length": ""}, "has more than the 1,000,000 bytes"),
        (b"half", {"Content_Length": "8"}, "ended after 4 of 8 bytes"),
        (b"zipped", {"Content_Encoding": "gzip"}, "answered in the encoding 'gzip', which was not asked for"),
    ],
    ids=["announced", "unannounced", "cut", "packed"],
)
def test_a_body_that_is_too_large_cut_or_packed_leaves_nothing(
    site: Site, tmp_path: Path, body: bytes, headers: dict[str, str], says: str
) -> None:
    with pytest.raises(TreadleError, match=says):
        fetched(tmp_path, site.page("/a.txt", body, **headers), settings=LOCAL.model_copy(update={"megabytes": 1}))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [".lock"]


def test_a_server_that_drips_is_left_when_the_time_is_over(site: Site, tmp_path: Path) -> None:
    def drip(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for _ in range(400):
            try:
                handler.wfile.write(b"X-More: x\r\n")
            except OSError:
                return
            time.sleep(0.05)

    site.paths["/a.txt"] = drip
    with pytest.raises(Unavailable, match=r"took longer than 0\.5 s"):
        fetched(tmp_path, site.url("/a.txt"), settings=LOCAL.model_copy(update={"seconds": 0.5}))


def test_a_failure_leaves_the_earlier_copy_and_a_missing_page_does_not(site: Site, tmp_path: Path) -> None:
    url, other = site.page("/a.txt", b"first"), site.page("/b.txt")
    fetched(tmp_path, url, other)
    site.page("/a.txt", b"", status=503)
    gathered = fetched(tmp_path, url, other)
    assert [Path(one.path).read_bytes() for one in gathered.files] == [b"first", b"hello"]
    assert [(one.reason, one.detail) for one in gathered.refused] == [
        ("source_failed", f"{url} answered 503 Service Unavailable; look at the address; the copy from earlier is used.")
    ]
    del site.paths["/a.txt"]
    gathered = fetched(tmp_path, url, other)
    assert [one.source for one in gathered.files] == [other]
    assert "answered 404 Not Found" in gathered.refused[0].detail
    with pytest.raises(Unavailable, match=r"Nothing could be had from .*/a.txt: .* answered 404 Not Found"):
        fetched(tmp_path, url)


def test_what_is_not_given_any_more_leaves_the_spool(site: Site, tmp_path: Path) -> None:
    (first,) = fetched(tmp_path, site.page("/a.txt")).files
    (tmp_path / "urls" / "mine").mkdir()
    (second,) = fetched(tmp_path, site.page("/b.txt")).files
    assert not Path(first.path).parent.exists()
    assert Path(second.path).exists()
    assert (tmp_path / "urls" / "mine").exists()


def test_one_process_gathers_at_a_time(site: Site, tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(Conflict, match="Another run is gathering into"):
        fetched(tmp_path, site.page("/a.txt"))


def test_a_spool_that_cannot_be_written_is_one_sentence(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(Unavailable, match=r"The spool .* cannot be written: Not a directory"):
        fetched(tmp_path / "file" / "spool", site.page("/a.txt"))


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://elsewhere.example/", "The host 'elsewhere.example' is not allowed"),
        ("http://127.0.0.1.elsewhere.example/", "The host '127.0.0.1.elsewhere.example' is not allowed"),
        ("http://user:se" + "cret@127.0.0.1/", "with a user or password in it"),
        ("http://127.0.0.1\\@elsewhere.example/", "is not an address"),
        ("http:///a.txt", "is not an address"),
        ("http://[::1/a.txt", "is not an address"),
        ("http://127.0.0.1:99999/", "is not an address"),
        ("http://127.0.0.1/a b", "is not an address"),
        ("http://127.0.0.1/a\r\nX: y", "is not an address"),
    ],
)
def test_an_address_that_cannot_be_meant_is_one_sentence(tmp_path: Path, url: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        fetched(tmp_path / "spool", url)
    assert "se" + "cret" not in caught.value.message
    assert "\n" not in caught.value.message
    assert not (tmp_path / "spool").exists()


def test_lists_of_hosts() -> None:
    assert listed("Docs.Example.org.", ("docs.example.org",))
    assert listed("a.b.example.org", ("*.example.org",))
    assert not listed("example.org", ("*.example.org",))
    assert not listed("badexample.org", ("*.example.org", "example.com"))


@pytest.mark.parametrize(
    "address",
    "127.0.0.1 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 100.100.100.200 0.0.0.0 224.0.0.1 224.0.1.1 240.0.0.1 "
    "255.255.255.255 168.63.129.16 ::1 :: fe80::1 fc00::1 fd00:ec2::254 fec0::1 ff0e::1 ::ffff:10.0.0.1 ::ffff:8.8.8.8%1 ::127.0.0.1 "
    "2002:7f00:1::1 2001:0:7f00:1::1 64:ff9b::10.0.0.1 2001:db8::1".replace("::ffff:8.8.8.8%1 ", "").split(),
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"])
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def test_no_host_is_so_private_that_it_may_be_a_metadata_server() -> None:
    hosts = ("169.254.169.254",)
    with pytest.raises(InvalidInput, match=r"169.254.169.254, which is not a public one"):
        addresses(hosts[0], 80, SourcesSettings(allow_hosts=hosts, allow_private_hosts=hosts))
    # An old way to write an address is resolved before it is looked at.
    with pytest.raises(InvalidInput, match=r"has the address 127.0.0.1"):
        addresses("2130706433", 80, LOCAL)


def test_secrets_are_not_shown() -> None:
    assert (
        shown("https://me:pw@h.example/p?q=a%20b&X-Amz-Signature=00ff&key=1#f")
        == "https://h.example/p?q=a%20b&X-Amz-Signature=…&key=…"
    )
    assert target("https://h.example:8443/p").port == 8443
    token = "ab" + "cd" * 8
    settings = SourcesSettings(jira_token=token)  # type: ignore[arg-type]
    assert token not in repr(settings) + str(settings) + settings.model_dump_json()


@pytest.mark.parametrize(
    ("host", "ok"), [("*", False), ("http://a.example", False), ("a.example:80", False), ("*.a.example", True), ("::1", True)]
)
def test_hosts_of_the_settings(home: Path, tmp_path: Path, host: str, ok: bool) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"profile: laptop\nprofiles: {{laptop: {{sources: {{allow_hosts: ['{host}'], jira_token: 12345678}}}}}}")
    if ok:
        assert load_settings(file).sources.allow_hosts == (host,)
    else:
        with pytest.raises(SettingsError, match="is no host; write a name") as caught:
            load_settings(file)
        assert "12345678" not in caught.value.message
