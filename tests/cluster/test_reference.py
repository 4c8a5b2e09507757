from cluster.cli.reference import markdown
from cluster.settings import ROOT


def test_the_reference_says_what_the_commands_say():
    assert (ROOT / "CLI.md").read_text(encoding="utf-8").strip() == markdown().strip(), (
        "run: python -m cluster.cli.reference > CLI.md"
    )
