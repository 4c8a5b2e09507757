"""HTTPS of the endpoint: which certificate it shows, and how this home's own clients know it again.

A self-signed certificate lies in TREADLE_HOME/tls, readable by its owner only, and is made anew by the next start when it has expired, is
about to, or is for another host. The proxies on all nodes read both files by their path: with several nodes give files that each node has.
"""

import ipaddress
import socket
import ssl
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cluster.artifacts import write_whole
from cluster.domain.base import now
from cluster.errors import SettingsError
from cluster.settings import Settings

VALID, RENEWED_BEFORE = timedelta(days=397), timedelta(days=30)


def scheme(settings: Settings) -> str:
    """http or https."""
    return "http" if settings.serve.tls is None else "https"


def files(settings: Settings) -> tuple[Path, Path] | None:
    """The certificate and its key; a self-signed pair is made where there is none. None: plain HTTP.

    Raises SettingsError when the files cannot be used, or are not of each other.
    """
    tls = settings.serve.tls
    if tls is None:
        return None
    if tls.certificate is not None and tls.key is not None:
        pair = tls.certificate.expanduser().absolute(), tls.key.expanduser().absolute()
        _check(*pair)
        return pair
    folder = settings.home / "tls"
    pair = folder / "certificate.pem", folder / "key.pem"
    names = _names(settings.serve.host)
    if not _still_good(*pair, names):
        _make(*pair, names)
    return pair


def trust(settings: Settings) -> ssl.SSLContext | bool:
    """What httpx takes as ``verify`` to talk to this home's endpoint: exactly its certificate, under whatever address it is reached.

    For clients of this home alone. Others verify as usual; of a self-signed certificate they need the file.
    """
    pair = files(settings)
    if pair is None:
        return True
    certificate = _first(pair[0])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=certificate.public_bytes(Encoding.DER))
    return context


def _check(certificate: Path, key: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: "")
    except OSError as error:  # ssl's errors are its kind
        raise SettingsError(
            f"The certificate {certificate} and the key {key} cannot be used ({error.strerror or error}); "
            "serve.tls takes PEM files that belong together, the key without a password."
        ) from None


def _first(file: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificates(file.read_bytes())[0]


def _names(host: str) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in dict.fromkeys((host, "localhost", socket.gethostname(), "127.0.0.1", "::1")):
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            if name.isascii() and name:
                found.append(x509.DNSName(name))
    return found


def _still_good(certificate: Path, key: Path, names: list[x509.GeneralName]) -> bool:
    if not (certificate.is_file() and key.is_file()):
        return False
    try:
        held = _first(certificate)
        _check(certificate, key)
        told = held.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, IndexError, SettingsError, x509.ExtensionNotFound):
        return False
    return held.not_valid_after_utc - RENEWED_BEFORE > now() and set(names) <= set(told)


def _make(certificate: Path, key: Path, names: list[x509.GeneralName]) -> None:
    secret = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Treadle")])
    start = now() - timedelta(hours=1)  # clocks differ
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + VALID)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(secret, hashes.SHA256())
    )
    key.parent.mkdir(parents=True, exist_ok=True)
    key.parent.chmod(0o700)
    write_whole(key, secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    key.chmod(0o600)
    write_whole(certificate, made.public_bytes(Encoding.PEM))
