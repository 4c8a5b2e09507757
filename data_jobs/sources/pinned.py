"""One HTTP request to an allowed host at an address that was looked at.

The name is resolved once and the connection goes to just that address, so a name that resolves differently a moment later changes
nothing. Every address must be a public one unless the settings name the host as private. Proxies are not used: they would resolve again.
The time bound holds for the whole exchange, even when a server sends a byte a minute; only the name's resolution has its own.
"""

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import SplitResult, quote, urlsplit

from cluster.errors import InvalidInput
from cluster.settings import SourcesSettings
from data_jobs.sources.found import Failed, NotAllowed, TooLarge, shown

T = TypeVar("T")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_PIECE = 1 << 16
_AS_IS = "/%:=&?~+!$,;'@()*[]"
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL = ipaddress.IPv6Network("2000::/3")
# A cloud's metadata server that has a public address.
_SERVICES = {ipaddress.IPv4Address("168.63.129.16")}


def target(url: str) -> SplitResult:
    """The parts of an http(s) address. Raises InvalidInput for what is none, and for one with a user or password in it."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or any(one.isspace() or one in '\\"<>' for one in url):
        raise InvalidInput(f"'{shown(url)}' is not an address; write it as https://host/path.")
    if "@" in parts.netloc:
        raise InvalidInput(f"'{shown(url)}' was given with a user or password in it; leave them out.")
    return parts


def listed(host: str, hosts: tuple[str, ...]) -> bool:
    """Whether a host is in a list of exact names and ``*.names``."""
    host = host.lower().rstrip(".")
    return any(host == one or (one.startswith("*.") and host.endswith(one[1:])) for one in hosts)


def check_host(host: str, settings: SourcesSettings) -> None:
    """Raises NotAllowed unless the settings allow the host."""
    if not listed(host, settings.allow_hosts):
        raise NotAllowed(f"The host '{host}' is not allowed; add it to allow_hosts of sources in the settings.")


def addresses(host: str, port: int, settings: SourcesSettings) -> list[str]:
    """What the host resolves to. Raises NotAllowed when one of the addresses may not be connected to, Failed when there is none."""
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Failed(f"The host '{host}' cannot be resolved: {getattr(error, 'strerror', None) or error}.") from None
    found = list(dict.fromkeys(str(answer[4][0]) for answer in answers))
    private = listed(host, settings.allow_private_hosts)
    for text in found:
        address = ipaddress.ip_address(text)
        if not (is_public(address) or (private and not _never(address))):
            raise NotAllowed(
                f"The host '{host}' has the address {address}, which is not a public one; "
                "add the host to allow_private_hosts of sources in the settings if it is yours."
            )
    return found


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet; an IPv6 address that carries an IPv4 one is judged by that."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address.sixtofour or address.teredo or address not in _GLOBAL:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved and address not in _SERVICES


def _never(address: Address) -> bool:
    """Addresses where no private host can be: metadata servers among them."""
    inner = getattr(address, "ipv4_mapped", None) or address
    return inner.is_multicast or inner.is_link_local or inner.is_unspecified or inner in _SERVICES


class Reply:
    """An answer's head; its body is read by ``pieces``."""

    def __init__(
        self, url: str, response: http.client.HTTPResponse, connection: "_Connection", settings: SourcesSettings
    ) -> None:
        self.url, self.status = url, response.status
        self._response, self._connection, self._settings = response, connection, settings

    def header(self, name: str) -> str:
        """A header's value, or ""."""
        return self._response.headers.get(name, "")

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes. Raises TooLarge, and Failed when it is cut short or takes too long."""
        limit = self._settings.megabytes * 1_000_000
        announced = self.header("Content-Length")
        length = int(announced) if announced.isdecimal() else None
        if self.header("Content-Encoding").lower() not in ("", "identity"):
            raise Failed(
                f"{shown(self.url)} answered in the encoding '{self.header('Content-Encoding')}', which was not asked for."
            )
        if (length or 0) > limit:
            raise TooLarge(f"{shown(self.url)} has {length:,} bytes, more than the {limit:,} that one file may have.")
        got = 0
        while piece := self._connection.watched(self.url, lambda: self._response.read(_PIECE)):
            got += len(piece)
            if got > limit:
                raise TooLarge(f"{shown(self.url)} has more than the {limit:,} bytes that one file may have.")
            yield piece
        if length is not None and got < length:
            raise Failed(f"{shown(self.url)} ended after {got:,} of {length:,} bytes.")


class _Connection(http.client.HTTPConnection):
    """A connection to addresses that were looked at, ended as a whole when its time is over."""

    def __init__(self, parts: SplitResult, found: list[str], seconds: float) -> None:
        self._secure = parts.scheme == "https"
        self.default_port = 443 if self._secure else 80
        super().__init__(str(parts.hostname), parts.port or self.default_port)
        self._found, self._seconds, self._until = found, seconds, time.monotonic() + seconds
        self._over = False
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True

    def connect(self) -> None:
        self._timer.start()
        for number, address in enumerate(self._found):
            try:
                self.sock = socket.create_connection((address, self.port), max(0.1, self._until - time.monotonic()))
                break
            except OSError:
                if number == len(self._found) - 1:
                    raise
        if self._secure:
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
            self.sock.do_handshake()

    def watched(self, url: str, step: Callable[[], T]) -> T:
        """The step's result; whatever goes wrong on the way is one sentence."""
        try:
            result = step()
        except (OSError, http.client.HTTPException) as error:
            if not self._over and not isinstance(error, TimeoutError):
                what = getattr(error, "strerror", None) or str(error) or type(error).__name__
                raise Failed(f"{shown(url)} does not answer: {what}.") from None
            self._over = True
        if self._over:
            raise Failed(f"{shown(url)} took longer than {self._seconds:g} s.")
        return result

    def close(self) -> None:
        self._timer.cancel()
        super().close()

    def _expire(self) -> None:
        self._over = True
        try:
            # The plain socket's: TLS's own would wait for its lock and forget its state.
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)
        except (OSError, AttributeError):
            return


@contextmanager
def asked(url: str, settings: SourcesSettings, headers: Mapping[str, str] | None = None) -> Iterator[Reply]:
    """The answer to a GET; redirects are answers too. Raises InvalidInput, NotAllowed or Failed."""
    parts = target(url)
    host = str(parts.hostname)
    check_host(host, settings)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    connection = _Connection(parts, addresses(host, port, settings), settings.seconds)
    wanted = quote(parts.path or "/", safe=_AS_IS) + (f"?{quote(parts.query, safe=_AS_IS)}" if parts.query else "")
    sent = {"User-Agent": "treadle", "Accept": "*/*", "Accept-Encoding": "identity", "Connection": "close", **(headers or {})}
    try:
        connection.watched(url, lambda: connection.request("GET", wanted, headers=sent))
        yield Reply(url, connection.watched(url, connection.getresponse), connection, settings)
    finally:
        connection.close()
