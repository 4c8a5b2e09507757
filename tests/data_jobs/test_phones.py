"""Phone numbers: international ones anywhere, national ones in the forms of the recipe's countries or after a word that says so."""

import pytest

from data_jobs.phones import find_phones
from data_jobs.pii import bytes_view

REGIONS = ("US", "GB", "DE", "FR")


def found(text: str, regions: tuple[str, ...] = REGIONS) -> list[tuple[str, str]]:
    kept: dict[int, tuple[str, str]] = {}
    for one in sorted(find_phones(text, bytes_view(text), regions), key=lambda item: item.end - item.start):
        kept = {end: pair for end, pair in kept.items() if end != one.end} | {one.end: (text[one.start : one.end], one.value)}
    return list(kept.values())


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("+4930901820", "+4930901820"),
        ("+49 (0)30 901820", "+4930901820"),
        ("0049 30 901820", "+4930901820"),
        ("030/901820", "+4930901820"),
        ("(030) 901820", "+4930901820"),
        ("0151-23456789", "+4915123456789"),
        ("+1 (415) 555-2671", "+14155552671"),
        ("1-415-555-2671", "+14155552671"),
        ("(415) 555-2671", "+14155552671"),
        ("(555) 123-4567", "+15551234567"),
        ("415.555.2671", "+14155552671"),
        ("415\u2011555\u20112671", "+14155552671"),
        ("020 7946 0958", "+442079460958"),
        ("+44 20 7946 0958", "+442079460958"),
        ("07911123456", "+447911123456"),
        ("01 42 68 53 00", "+33142685300"),
        ("06.12.34.56.78", "+33612345678"),
        ("+33 6 12 34 56 78", "+33612345678"),
        ("+91 98765 43210", "+919876543210"),
        ("+86\u00a0138\u00a00013\u00a08000", "+8613800138000"),
        ("+353 1 234 5678", "+35312345678"),
    ],
)
def test_numbers_are_found_in_every_surrounding(written: str, value: str) -> None:
    for text in (
        f"{written} is the desk",
        f"Tel.: {written}",
        f'{{"phone": "{written}"}}',
        f"| {written} |",
        f"a,{written},b",
        f"ask {written}, please",
    ):
        assert found(text) == [(written, value)], text


def test_extensions_belong_to_the_number() -> None:
    assert found("call 415-555-2671 ext. 99 now") == [("415-555-2671 ext. 99", "+14155552671")]
    assert found("or (415) 555-2671 x12.") == [("(415) 555-2671 x12", "+14155552671")]


def test_a_word_makes_a_bare_number_a_phone_number() -> None:
    assert found("phone 4155552671") == [("4155552671", "+14155552671")]
    assert found("item 4155552671") == []
    assert found("call 555-0123") == [("555-0123", "local 5550123")]
    assert found("room 555-0123") == []


def test_regions_say_whose_national_numbers_are_known() -> None:
    assert found("ask 020 7946 0958", ("US",)) == []
    assert found("ask 415-555-2671", ("DE",)) == []
    assert found("07700 900123", ("GB",)) == [("07700 900123", "+447700900123")]  # kept for films: valid nowhere
    assert found("ask +44 20 7946 0958", ()) == [("+44 20 7946 0958", "+442079460958")]


@pytest.mark.parametrize(
    "text",
    [
        "on 2024-01-15, 15.01.2024 and 01/15/2024 at 10:30:00",
        "ISBN 978-3-16-148410-0, ISSN 0317-8471, doi:10.1000/s12345-019-12345-7",
        "order no. 0301234567, invoice 020 7946 0958",
        "Batch number: 0039-9739-13",
        "1700000000 1700000000000 0123456789",
        "version 10.0.19041.1234",
        "3.141592653589793 and 0.0123456789",
        "550e8400-e29b-41d4-a716-446655440000",
        "0x0301234567 0301234567L f0301234567",
        "Decimal('+35236450.6') +0000-007 +1234567890",
        "51.507351, -0.127758",
        "1000/200 phones = $<<1000/200=5>>",
        "0 1 0 0 1 1 0 10 100 12",
        "01.02.2024 bis 03.04.2025",
        "10.20.30.40 192.168.100.200",
        "port 5432, pid 123456, 1,234,567.89 EUR",
        "0000000000 000-000-0000",
    ],
)
def test_other_numbers_stay(text: str) -> None:
    assert found(text) == []


def test_what_follows_on_the_line_is_no_part_of_the_number() -> None:
    assert found("+49 30 901820 12345678 7")[0][0] == "+49 30 901820"
    assert [written for written, _ in found("415-555-2671, 212-555-0187")] == ["415-555-2671", "212-555-0187"]
