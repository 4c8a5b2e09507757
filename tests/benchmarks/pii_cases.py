"""Cases for the benchmark of masking: entities by the rules that make them valid, in many ways of writing, in many surroundings;
and what only looks like them. Everything comes from a seed; nothing is anybody's.
"""

import random
import string

from pii_carriers import PHONE_PROSE, PROSE, Case
from pii_lookalikes import HEX, digits, lookalike, pick_from
from pii_secrets import assigned, connection, header, key_block, token_case

KINDS = ("email", "phone", "iban", "card", "ip", "secret")


FIRST = "desk porter lift lobby office garden roof cellar stairs gate garage pool kitchen attic yard boiler keys mail bins hall".split()
LAST = (
    "north south east west oak elm birch cedar maple pine willow ash hazel alder o'hare rowan larch poplar spruce juniper".split()
)
HOSTS = (
    "example.com example.org mail.example.co.uk firma-nord.de sub.dept.uni-test.edu acme.io post.example.fr beispiel.at test.museum"
).split()


def email(pick: random.Random) -> str:
    first, last, host = pick.choice(FIRST), pick.choice(LAST), pick.choice(HOSTS)
    forms = (
        f"{first}.{last}@{host}",
        f"{first}_{last}{pick.randint(1, 99)}@{host}",
        f"{first[0]}{last}+news{pick.randint(1, 9)}@{host}",
        f"{first.title()}.{last.title()}@{host.upper()}",
        f"{first}-{last}@{pick_from(pick, string.ascii_lowercase, 6)}.{host}",
        f"{first}@xn--{pick_from(pick, string.ascii_lowercase, 5)}-kva.de",
        f"jörg.{last}@müller-{first}.de",
        f'"{first} {last}"@{host}',
        f"info@{host}",
        f"{first}.{last}@{host}".replace("@", " [at] ").replace(".", " [dot] ")
        if "'" not in last and "-" not in host
        else f"{first}@{host}",
        f"{first}%40{host}",
        f"{pick.randint(1000, 9999)}{first}@{host}",
    )
    return pick.choice(forms)


def phone(pick: random.Random) -> str:
    us = pick.choice(["212", "415", "206", "312", "617", "305", "702"]) + str(pick.randint(200, 999)) + digits(pick, 4)
    de_area, de_rest = pick.choice(["30", "40", "89", "221", "69"]), str(pick.randint(2, 9)) + digits(pick, 6)
    de_mobile = pick.choice(["151", "160", "170", "171", "176"]) + str(pick.randint(1, 9)) + digits(pick, 6)
    gb = pick.choice(["20 7", "20 8"]) + digits(pick, 3) + " " + digits(pick, 4)
    gb_mobile = "7" + pick.choice(["400", "508", "711", "802", "903"]) + digits(pick, 6)
    fr = [pick.choice("12345679")] + [digits(pick, 2) for _ in range(4)]
    fr[0] = pick.choice("123456")
    hyphen = pick.choice(["-", "-", "\u2010", "\u2011", "\u2013"])
    space = pick.choice([" ", " ", "\u00a0", "\u202f"])
    forms = (
        f"+1{us}",
        f"+1 {us[:3]} {us[3:6]} {us[6:]}",
        f"+1 ({us[:3]}) {us[3:6]}{hyphen}{us[6:]}",
        f"+1{hyphen}{us[:3]}{hyphen}{us[3:6]}{hyphen}{us[6:]}",
        f"1-{us[:3]}-{us[3:6]}-{us[6:]}",
        f"({us[:3]}) {us[3:6]}-{us[6:]}",
        f"({us[:3]}){us[3:6]}-{us[6:]}",
        f"{us[:3]}{hyphen}{us[3:6]}{hyphen}{us[6:]}",
        f"{us[:3]}.{us[3:6]}.{us[6:]}",
        f"{us[:3]} {us[3:6]} {us[6:]}",
        f"({us[:3]}) {us[3:6]}-{us[6:]} ext. {pick.randint(10, 9999)}",
        f"{us[:3]}-{us[3:6]}-{us[6:]} x{pick.randint(10, 999)}",
        f"+49{de_area}{de_rest}",
        f"+49{space}{de_area}{space}{de_rest}",
        f"+49 (0){de_area} {de_rest[:3]} {de_rest[3:]}",
        f"+49 (0) {de_area} / {de_rest}",
        f"0049 {de_area} {de_rest}",
        f"0{de_area}/{de_rest}",
        f"0{de_area} {de_rest[:3]} {de_rest[3:5]} {de_rest[5:]}",
        f"(0{de_area}) {de_rest}",
        f"0{de_mobile[:3]} {de_mobile[3:]}",
        f"0{de_mobile[:3]}-{de_mobile[3:]}",
        f"0{de_mobile}",
        f"+49 {de_mobile[:3]} {de_mobile[3:]}",
        f"+44 {gb}",
        f"+44 (0){gb}",
        f"0{gb}",
        f"(0{gb[:2]}) {gb[3:]}",
        f"0{gb_mobile[:4]}{space}{gb_mobile[4:]}",
        f"0{gb_mobile[:4]} {gb_mobile[4:7]} {gb_mobile[7:]}",
        f"0{gb_mobile}",
        f"+44{gb_mobile}",
        "0" + pick.choice([" ", ".", "-", ""]).join(fr).replace(" ", " ", 1),
        f"+33 {fr[0]} {fr[1]} {fr[2]} {fr[3]} {fr[4]}",
        f"+33{''.join(fr)}",
        f"00 33 {' '.join(fr)}",
        f"+39 06 {digits(pick, 4)} {digits(pick, 4)}",
        f"+34 {pick.choice('67')}{digits(pick, 2)} {digits(pick, 3)} {digits(pick, 3)}",
        f"+91 98{digits(pick, 3)} {digits(pick, 5)}",
        f"+86 138 {digits(pick, 4)} {digits(pick, 4)}",
        f"+81 3-{pick.randint(3200, 3599)}-{digits(pick, 4)}",
        f"+41 44 {pick.randint(200, 999)} {digits(pick, 2)} {digits(pick, 2)}",
        f"+31 20 {pick.randint(200, 799)} {digits(pick, 4)}",
        f"+61 4{pick.randint(10, 39)} {digits(pick, 3)} {digits(pick, 3)}",
        f"+55 11 9{pick.randint(6000, 9999)}-{digits(pick, 4)}",
        f"+353 1 {pick.randint(400, 899)} {digits(pick, 4)}",
    )
    return pick.choice(forms)


BBAN = {
    "DE": "n18",
    "FR": "n10 c11 n2",
    "GB": "a4 n14",
    "ES": "n20",
    "IT": "a1 n10 c12",
    "NL": "a4 n10",
    "CH": "n5 c12",
    "AT": "n16",
    "BE": "n12",
    "PL": "n24",
    "NO": "n11",
    "SE": "n20",
    "DK": "n14",
    "FI": "n14",
    "IE": "a4 n14",
    "PT": "n21",
    "MT": "a4 n5 c18",
    "GR": "n7 c16",
    "SA": "n2 c18",
    "AE": "n19",
    "TR": "n5 n1 c16",
    "CZ": "n20",
    "LU": "n3 c13",
    "BR": "n23 a1 c1",
    "RO": "a4 c16",
}


def iban(pick: random.Random) -> str:
    country = pick.choice(sorted(BBAN))
    alphabets = {"n": string.digits, "a": string.ascii_uppercase, "c": string.ascii_uppercase + string.digits}
    bban = "".join(pick_from(pick, alphabets[part[0]], int(part[1:])) for part in BBAN[country].split())
    check = 98 - int("".join(str(int(char, 36)) for char in bban + country + "00")) % 97
    whole = f"{country}{check:02}{bban}"
    groups = [whole[start : start + 4] for start in range(0, len(whole), 4)]
    return pick.choice([whole, " ".join(groups), " ".join(groups), "\u00a0".join(groups), "-".join(groups), whole.lower()])


def card(pick: random.Random) -> str:
    prefix, size = pick.choice(
        [
            ("4", 16),
            ("4", 16),
            ("51", 16),
            ("55", 16),
            ("2221", 16),
            ("2720", 16),
            ("34", 15),
            ("37", 15),
            ("6011", 16),
            ("65", 16),
            ("3056", 14),
            ("3528", 16),
            ("62", 16),
        ]
    )
    body = prefix + digits(pick, size - len(prefix) - 1)
    total = sum(sum(divmod(int(digit) * 2, 10)) if place % 2 == 0 else int(digit) for place, digit in enumerate(reversed(body)))
    whole = body + str(-total % 10)
    cuts = {16: (4, 8, 12), 15: (4, 10), 14: (4, 10)}[size]
    groups = [whole[start:end] for start, end in zip((0, *cuts), (*cuts, size), strict=True)]
    return pick.choice(["", "", " ", " ", "-", "\u2011", "\u00a0"]).join(groups)


def ip(pick: random.Random) -> str:
    def four() -> str:
        first = pick.choice([5, 8, 23, 34, 45, 52, 77, 81, 91, 104, 142, 151, 185, 193, 212, 217])
        return f"{first}.{pick.randint(0, 255)}.{pick.randint(0, 255)}.{pick.randint(1, 254)}"

    def six() -> str:
        head = pick.choice(["2a00:1450", "2606:4700", "2620:fe", "2a03:2880", "2400:cb00"])
        rest = [pick_from(pick, HEX, 4).lstrip("0") or "1" for _ in range(6)]
        return pick.choice(
            [
                f"{head}:{':'.join(rest)}",
                f"{head}::{rest[0]}",
                f"{head}:{rest[0]}::{rest[1]}:{rest[2]}",
                f"{head}::{rest[0]}".upper(),
            ]
        )

    return pick.choice([four, four, six])()


def planted(pick: random.Random, kind: str) -> Case:
    if kind == "secret":
        return pick.choice([token_case, token_case, assigned, assigned, connection, header, key_block])(pick)
    value = {"email": email, "phone": phone, "iban": iban, "card": card, "ip": ip}[kind](pick)
    carriers = PHONE_PROSE if kind == "phone" else PROSE
    if value.startswith('"') or "[" in value:
        carriers = ("Please write to {} by Friday.", "Contact: {}", "see {}, or ask at the desk")
    return Case(kind, value, pick.choice(carriers).format(value))


def generated(cases: int, seed: int) -> list[Case]:
    pick = random.Random(seed)
    kinds = [*KINDS, "secret", "", "", "", "", "", ""]
    made = [
        planted(pick, kind) if kind else Case("", "", lookalike(pick))
        for kind in (kinds[number % len(kinds)] for number in range(cases))
    ]
    pick.shuffle(made)
    return made
