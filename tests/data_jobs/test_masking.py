"""One value, one placeholder, in everything that one masker sees; what it must find is found, and what it must not is left."""

import importlib.util
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from cluster.domain.data_recipes import WashRecipe
from cluster.errors import InvalidInput
from data_jobs.masking import Masker, check_masking, masked

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "pii.py"


def test_the_same_value_has_the_same_number_however_it_is_written() -> None:
    text = "a@x.org, +49 30 901820, A@X.org, 0049 (30) 901820, b@x.org, DE89370400440532013000, DE89 3704 0044 0532 0130 00"
    assert Masker().mask(text) == "[EMAIL_1], [PHONE_1], [EMAIL_1], [PHONE_1], [EMAIL_2], [IBAN_1], [IBAN_1]"


def test_the_texts_of_a_conversation_share_their_numbers() -> None:
    texts = ["I am porter@example.com", "Hello porter@example.com, desk@example.com is in", "Nothing here"]
    assert masked(texts) == ["I am [EMAIL_1]", "Hello [EMAIL_1], [EMAIL_2] is in", "Nothing here"]


def test_a_placeholder_that_is_there_already_is_never_given_again() -> None:
    assert masked(["porter@example.com", "as [EMAIL_1] said"]) == ["[EMAIL_2]", "as [EMAIL_1] said"]
    once = masked(["porter@example.com and desk@example.com"])
    assert masked(once) == once


def test_a_recipe_says_which_kinds_go_but_secrets_always_go() -> None:
    text = 'porter@example.com 8.8.8.8 password="hunter' + '22"'
    assert Masker(WashRecipe(mask=("ip",))).mask(text) == 'porter@example.com [IP_1] password="[SECRET_1]"'
    assert Masker(WashRecipe(mask=())).mask(text) == 'porter@example.com 8.8.8.8 password="[SECRET_1]"'


def test_of_two_that_overlap_the_surer_one_stays() -> None:
    assert Masker().mask("IBAN GB29 NWBK 6016 1331 9268 19 and card 4111 1111 1111 1111") == "IBAN [IBAN_1] and card [CARD_1]"
    assert Masker().mask("https://app:s3" + "cret@example.org/x") == "https://app:[SECRET_1]@example.org/x"


def test_counts_say_how_often_each_kind_was_masked() -> None:
    masker = Masker()
    masker.mask("a@x.org a@x.org 8.8.8.8")
    masker.mask("a@x.org")
    assert masker.counts == {"email": 3, "ip": 1}


def test_recipes_travel_to_workers() -> None:
    recipe = WashRecipe(mask=("email",), languages=("en",))
    assert pickle.loads(pickle.dumps(recipe)) == recipe


@pytest.mark.skipif(importlib.util.find_spec("presidio_analyzer") is not None, reason="the presidio extra is installed")
def test_names_without_the_extra_are_refused_with_the_way_out() -> None:
    with pytest.raises(InvalidInput, match=r'pip install "treadle\[presidio\]"'):
        check_masking(WashRecipe(names=True))
    check_masking(WashRecipe())


@pytest.fixture(scope="module")
def module() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCHMARK.parent))
    spec = importlib.util.spec_from_file_location("pii_benchmark", BENCHMARK)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["pii_benchmark"] = module
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(BENCHMARK.parent))


def test_the_benchmark_finds_what_was_planted_and_little_else(module: ModuleType) -> None:
    figures = module.measured(module.generated(2600, seed=99))
    for kind in module.KINDS:
        assert figures[kind]["recall"] >= 0.98, kind
        assert figures[kind]["precision"] >= 0.95, kind
    assert figures["overall"]["secrets_leaked"] == 0


def test_the_benchmark_would_notice_if_nothing_were_masked(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Masker, "mask", lambda self, text: text)
    figures = module.measured([module.Case("email", "a@x.org", "a@x.org"), module.Case("secret", "k", "k")] * 3)
    assert figures["email"]["recall"] == 0
    assert figures["overall"]["secrets_leaked"] == 3
