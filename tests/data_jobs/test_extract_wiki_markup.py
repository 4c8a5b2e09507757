"""Jira's wiki markup to Markdown."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_jobs.extract.wiki_markup import fenced, table_row, to_markdown


@pytest.mark.parametrize(
    ("wiki", "markdown"),
    [
        ("h1. Top\r\nh3. Deep *bold*", "# Top\n### Deep **bold**"),
        ("h7. no heading", "h7. no heading"),
        ("* a\n** b\n# c\n#* d\n- e", "- a\n  - b\n1. c\n   - d\n- e"),
        ("*a* and * b * and a*b*c", "**a** and * b * and a*b*c"),
        ("cron */5 * * * * and *.java and *.py", "cron */5 * * * * and *.java and *.py"),
        ("_it_ stays, -so- does this", "_it_ stays, -so- does this"),
        ("{{mono *x* [a|b]}} *y*", "`mono *x* [a|b]` **y**"),
        ("{{${name}}}", "`${name}`"),
        (
            "[docs|https://x.example/a?b=1] [docs|https://x.example|tip]",
            "[docs](https://x.example/a?b=1) [docs](https://x.example)",
        ),
        ("[https://x.example] [mailto:a@b.example]", "https://x.example a@b.example"),
        ("[above|#anchor] [file|^log.txt] [^log.txt] [who|~jdoe]", "above file log.txt who"),
        ("[dup|AB-12] a[0] [x|y] [see|this one]", "[dup](AB-12) a[0] [x|y] [see|this one]"),
        ("[~jdoe] [~accountid:5b10a:77]", "@jdoe @user"),
        ("see !shot one.png|thumbnail! and !http://x.example/a.gif! now! really!", "see  and  now! really!"),
        ("{color:red}red{color} {anchor:x}{toc:maxLevel=2}end", "red end"),
        ("{panel:title=Note|borderStyle=x}in{panel}", "**Note** in"),
        ("bq. said", "> said"),
        ("a\n----\nb", "a\n---\nb"),
        (r"one\\ two", "one\ntwo"),
        (r"\\server\share", r"\\server\share"),
        (
            "||a||b||\n|1|[x|https://y.example]|\n||row|2|",
            "| a | b |\n| --- | --- |\n| 1 | [x](https://y.example) |\n| row | 2 |",
        ),
        ("before {quote}said\n*it*{quote} after", "before\n\n> said\n> **it**\n\nafter"),
        ("", ""),
    ],
)
def test_markup_becomes_markdown(wiki: str, markdown: str) -> None:
    assert to_markdown(wiki) == markdown.strip()


def test_code_is_kept_as_it_is_and_named() -> None:
    wiki = "run\n{code:java|title=Foo.java}\n  *x* = [a|https://b]; {quote}\n{code}\nand {noformat}h1. raw{noformat} end"
    assert (
        to_markdown(wiki)
        == "run\n\n**Foo.java**\n\n```java\n  *x* = [a|https://b]; {quote}\n```\n\nand\n\n```\nh1. raw\n```\n\nend"
    )


def test_code_in_a_quote_is_quoted_with_it() -> None:
    assert to_markdown("{quote}\nlook\n{code}\nx\n{code}\n{quote}\nout") == "> look\n\n> ```\n> x\n> ```\n\nout"


def test_code_that_is_cut_off_goes_to_the_end() -> None:
    assert to_markdown("see {code}\nint x;\n* y") == "see\n\n```\nint x;\n* y\n```"


def test_a_fence_is_longer_than_any_in_the_code() -> None:
    assert fenced("a\n```\nb", "md") == "````md\na\n```\nb\n````"
    assert table_row(["a\nb", " c "], header=False) == ["| a b | c |"]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(alphabet="abc \n*#-_[]{}|!~^\\.h1:/", max_size=80))
def test_no_letter_is_lost_from_plain_markup(wiki: str) -> None:
    letters = [sign for sign in to_markdown(wiki) if sign in "abc"]
    assert letters == [sign for sign in wiki if sign in "abc"] or any(sign in wiki for sign in "{[!")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("piece", ["{code", "{code:x}", "{{", "[a|", "*a", "!a", "{quote}", "[", "|a", "{{a{b}", "[~", "||"])
def test_the_work_grows_with_the_length_only(piece: str) -> None:
    assert "the end" in to_markdown(piece * 100_000 + "\nthe end")
