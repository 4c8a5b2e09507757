"""Languages are told apart where there is enough text, and not guessed where there is not."""

import pytest

from data_jobs.language import known_languages, language_of

TEXTS = {
    "en": "The lift in the east wing is inspected every spring, and the report is kept in the office on the second floor. ",
    "de": "Der Aufzug im Ostflügel wird in jedem Frühling geprüft, und der Bericht liegt im Büro im zweiten Stock bereit. ",
    "fr": "L'ascenseur de l'aile est est contrôlé chaque printemps, et le rapport est conservé au bureau du deuxième étage. ",
    "es": "El ascensor del ala este se revisa cada primavera, y el informe se guarda en la oficina del segundo piso. ",
    "ru": "Лифт в восточном крыле проверяют каждую весну, а отчёт хранится в конторе на втором этаже нашего дома. ",
}


@pytest.mark.parametrize("code", sorted(TEXTS))
def test_long_texts_are_judged_and_short_ones_are_not(code: str) -> None:
    assert language_of(TEXTS[code] * 3) == code
    assert language_of(TEXTS[code][:100]) is None
    assert code in known_languages()


def test_numbers_and_signs_are_no_letters() -> None:
    assert language_of("12 345 | 67 890 | == " * 200) is None
