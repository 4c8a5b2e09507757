"""E-mail addresses, IBANs, cards, internet addresses: found as people write them; what looks like them stays."""

from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from data_jobs.pii import Found, bytes_view, find_cards, find_emails, find_ibans, find_ips

Finder = Callable[[str, bytes], Iterator[Found]]


def found(finder: Finder, text: str) -> list[str]:
    view = bytes_view(text)
    assert len(view) == len(text)
    return [text[one.start : one.end] for one in finder(text, view)]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("write to first.last+tag@sub.example.co.uk.", "first.last+tag@sub.example.co.uk"),
        ("<mailto:desk@example.io>", "desk@example.io"),
        ("FROM:DESK@EXAMPLE.COM;", "DESK@EXAMPLE.COM"),
        ("bei jörg@müller-haus.de,", "jörg@müller-haus.de"),
        ("δοκιμή@παράδειγμα.gr", "δοκιμή@παράδειγμα.gr"),
        ("x@xn--nxasmq6b.com", "x@xn--nxasmq6b.com"),
        ('"the desk"@example.org', '"the desk"@example.org'),
        ("o'hare@example.com's box", "o'hare@example.com"),
        ("print('desk@example.com')", "desk@example.com"),
        ("https://x.org/?u=desk@example.com&n=1", "desk@example.com"),
        ("https://x.org/?u=desk%40example.com&n=1", "desk%40example.com"),
        ("desk [at] example [dot] com", "desk [at] example [dot] com"),
        ("desk(at)example.com", "desk(at)example.com"),
        ("desk at example dot co dot uk please", "desk at example dot co dot uk"),
        ("desk@[192.0.2.1]", "desk@[192.0.2.1]"),
        ("**_desk@example.com_**", "desk@example.com"),
        (r"\ndesk@example.com\n", "desk@example.com"),
    ],
)
def test_addresses_are_found_whole(text: str, address: str) -> None:
    assert [one.strip("_\\n") for one in found(find_emails, text)] == [address.strip("_\\n")]


@pytest.mark.parametrize(
    "text",
    [
        "git clone git@github.com:team/repo.git",
        "ssh://git@example.org/team/repo",
        "icon@2x.png",
        "systemctl start getty@tty1.service",
        "npm i react@18.2.0 @scope/pkg@1.2.3",
        "this@MainActivity.applicationContext",
        "@app.route('/x')",
        "a @ b.c",
        "user@localhost",
        "look at example dot",
    ],
)
def test_what_only_has_a_sign_stays(text: str) -> None:
    assert found(find_emails, text) == []


IBANS = (
    "DE89370400440532013000",
    "GB29NWBK60161331926819",
    "FR1420041010050500013M02606",
    "NO9386011117947",
    "MT84MALT011000012345MTLCAST001S",
)


@pytest.mark.parametrize("number", IBANS)
def test_ibans_are_found_in_every_spacing(number: str) -> None:
    groups = [number[start : start + 4] for start in range(0, len(number), 4)]
    for written in (number, number.lower(), " ".join(groups), "-".join(groups), "\u00a0".join(groups), "  ".join(groups)):
        for text in (f"IBAN {written}, BIC", f'"{written}"', f"IBAN:{written}"):
            assert found(find_ibans, text) == [written], text
    assert found(find_ibans, f"IBAN{number}") == [number]


def test_an_iban_must_have_its_check_digits_its_length_and_its_ends() -> None:
    for wrong in (
        "DE88370400440532013000",
        "DE8937040044053201300",
        "DE893704004405320130001",
        "XX89370400440532013000",
        "xDE89370400440532013000",
    ):
        assert found(find_ibans, wrong) == []


CARDS = (
    "4111111111111111",
    "5555555555554444",
    "2223003122003222",
    "378282246310005",
    "6011000990139424",
    "3530111333300000",
    "30569309025904",
)


@pytest.mark.parametrize("number", CARDS)
def test_cards_are_found_in_their_groups(number: str) -> None:
    cuts = (0, 4, 10, len(number)) if len(number) < 16 else (0, 4, 8, 12, 16)
    groups = [number[start:end] for start, end in pairwise(cuts)]
    for written in (number, " ".join(groups), "-".join(groups), "\u2011".join(groups)):
        for text in (f"Visa:{written}", f"{written}, cvc 123", f"({written})", f"{written} 12/29"):
            assert found(find_cards, text) == [written], text


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",
        "9111111111111111",
        "0.4111111111111111",
        "0x4111111111111111",
        "4111111111111111L",
        "id-4111111111111111",
        "EAN 4006381333931",
        "I1120 15:13:40.399344 1679654912",
        "1700000000000 1700000000000000000",
    ],
)
def test_other_long_numbers_stay(text: str) -> None:
    assert found(find_cards, text) == []


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("from 93.184.216.34:443", "93.184.216.34"),
        ("ssh root@52.1.2.3", "52.1.2.3"),
        ("http://93.184.216.34/x", "93.184.216.34"),
        ("81.2.69.142/24", "81.2.69.142"),
        ("see 81.2.69.142.", "81.2.69.142"),
        ("81[.]2[.]69[.]142", "81[.]2[.]69[.]142"),
        ("::ffff:8.8.8.8", "8.8.8.8"),
        ("[2606:2800:220:1:248:1893:25c8:1946]:443", "2606:2800:220:1:248:1893:25c8:1946"),
        ("2a02:8108::/32", "2a02:8108::"),
        ("2001:4860:4860::8888.", "2001:4860:4860::8888"),
    ],
)
def test_routed_addresses_are_found(text: str, address: str) -> None:
    assert found(find_ips, text) == [address]


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1 10.1.2.3 192.168.0.1 172.16.3.4 169.254.1.1 0.0.0.0 255.255.255.0 224.0.0.1",
        "192.0.2.7 198.51.100.3 203.0.113.9",
        "version 4.2.1.0, v1.2.3.4, thing==1.2.3.4, firmware 8.1.0.3",
        "Chrome/91.0.44.124 Safari",
        "libfoo.so.1.2.3.4 linux-5.4.0.109 pkg_1.2.3.4_amd64",
        "OID 1.3.6.1.4.1.311",
        "1.2.3.4 Scope of this document",
        "999.1.1.1 1.2.3",
        "::1 fe80::1 fc00::7 2001:db8::1 ff02::1",
        "12:34:56 std::collections::HashMap abc::def 2024:01:02 aa:bb:cc:dd:ee:ff",
    ],
)
def test_other_addresses_and_versions_stay(text: str) -> None:
    assert found(find_ips, text) == []
