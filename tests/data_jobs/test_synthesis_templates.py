"""Pairs without a model: what makes one, and what must not."""

import pytest

from cluster.domain.documents import Passage
from data_jobs.synthesis_checks import refusal
from data_jobs.synthesis_templates import pairs

STEPS = "To install the pump, do this:\n\n1. Close the valve.\n2. Fit the pump.\n3. Open the valve slowly.\n\nAsk for help if it leaks.\n"


def passage(text: str, heading: str = "") -> Passage:
    return Passage(id="d.0", document_id="d", corpus="c", number=0, text=text, start=0, end=len(text), heading=heading)


def asked(text: str, heading: str = "", kind: str = "qa", most: int = 9, whole_start: bool = True) -> dict[str, str]:
    return {one.question: one.answer for one in pairs(passage(text, heading), whole_start, (kind,), most)}


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("A closure is an anonymous function that captures its environment.", "What is a closure?"),
        ("Mason Works is a block of\nforty flats by the canal.", "What is Mason Works?"),
        ("The rent of Oak House is 900 euros.", "What is the rent of Oak House?"),
        ("The yearly inspection of Canal View is 24 November.", "What is the yearly inspection of Canal View?"),
        ("The bridge was opened in 1987.", ""),
        ("Canal View was built in 1987.", "When was Canal View built?"),
        ("A wash costs 2.50 euros.", "How much does a wash cost?"),
    ],
)
def test_definitions_and_facts(text: str, question: str) -> None:
    assert asked(text) == ({question: " ".join(text.split())} if question else {})


@pytest.mark.parametrize(
    "text",
    [
        "It is a function that returns nothing at all.",
        "This is an example of a closure with two arguments.",
        "The first step is a call of the function below.",
        "The lock is a part of the mutex that keeps track of who has access.",
        "Running two servers at the same time is a bad idea for most small teams.",
        "Rust is a bit like other languages of its kind.",
        "A pointer, as we saw, is a value that holds an address of memory.",
        "Most of them is a kind of house with many rooms.",
        "The rent of the house we saw is 900 euros.",
        "it is 900 euros. and a closure is an anonymous function that is cut",
        "# A heading is a title of the text under it.",
        "| A cell | is a part of a table with rows. |",
        "```\nA closure is an anonymous function that captures things.\n```",
        "```\nA closure is an anonymous function that captures things.",
        "- A closure is an anonymous function that captures things.\n  Cut",
        "Is it a closure? What is an anonymous function good for?",
    ],
)
def test_what_is_not_certain_makes_nothing(text: str) -> None:
    assert asked(text) == {}


def test_the_first_sentence_counts_only_where_it_is_known_to_be_whole() -> None:
    text = "Oak House is a block of forty flats. Mason Works is a block of ninety flats."
    assert list(asked(text)) == ["What is Oak House?", "What is Mason Works?"]
    assert list(asked(text, whole_start=False)) == ["What is Mason Works?"]


def test_abbreviations_end_no_sentence() -> None:
    text = "Mason Works is a block of flats, e.g. Dr. Kay's, by the canal. It has a lift."
    assert asked(text) == {"What is Mason Works?": "Mason Works is a block of flats, e.g. Dr. Kay's, by the canal."}


def test_marks_and_links_are_no_part_of_an_answer() -> None:
    text = "A **crate** is a [unit](http://x) of *compilation*<!-- x --> in `cargo`[^1]."
    assert asked(text) == {"What is a crate?": "A crate is a unit of compilation in `cargo`."}


def test_a_value_under_a_heading_that_says_whose() -> None:
    text = "- **Rent**: 900 euros\n- Result: 10\n- Owner: somebody\n"
    assert asked(text, "Houses > Oak House") == {'According to "Oak House", what is the rent?': "Rent: 900 euros"}
    assert asked(text, "Houses > Overview") == {}
    assert asked(f"{text}```\n", "Houses > Oak House") == {}


def test_a_section_is_asked_for_by_its_heading_where_a_sentence_takes_it_up() -> None:
    text = "The lift is old. Paper waste at Oak House is collected every Monday at nine. Glass is not collected."
    (one,) = pairs(passage(text, "Oak House > Paper waste"), True, ("qa",), 3)
    assert one.question == 'What does "Oak House" say about "Paper waste"?'
    assert one.answer == one.span == text[len("The lift is old. ") :]
    for heading in ("Paper waste", "Oak House > Waste of glass bottles", "Oak House > Introduction", "Overview > Paper waste"):
        assert asked(text, heading) == {}
    assert asked("Also, paper waste at Oak House is collected every Monday at nine.", "Oak House > Paper waste") == {}


@pytest.mark.parametrize(
    ("text", "heading", "question", "answer"),
    [
        ("- List all files:\n\n`tar tf {{a.tar}}`\n", "tar", "Which tar command do you use to list all files?", "tar tf {{a.tar}}"),
        ("- E[x]tract an archive (v):\n\n`tar xf`", "tar", "Which tar command do you use to extract an archive?", "tar xf"),
        ("Show the tree's old state:\n```sh\n$ git x\n```", "", "Which command do you use to show the tree's old state?", "git x"),
        ("Show the log:\n```\ngit log\n```", "git-log", "Which git log command do you use to show the log?", "git log"),
        ("Show help:\n`sudo aa-enforce -h`", "aa-enforce", "Which aa-enforce command do you use to show help?", "sudo aa-enforce -h"),
        ("Show help:\n`jira open`", "", "", ""),
        ("The program prints:\n`hello`", "", "", ""),
        ("List all the open files:\n\nas you like", "", "", ""),
    ],
)  # fmt: skip
def test_commands(text: str, heading: str, question: str, answer: str) -> None:
    assert asked(text, heading) == ({question: answer} if question else {})


def test_lists_are_asked_for_when_they_are_whole() -> None:
    text = "The shop accepts the following cards:\n\n- Blue card\n- Red card\n\nCash is taken too."
    assert asked(text) == {}  # which shop?
    text = text.replace("The shop", "Oak House")
    assert asked(text) == {"Which cards does Oak House accept?": "- Blue card\n- Red card"}
    text = "The following days are free of charge:\n- Monday\n- Friday\n\nOther days cost."
    assert asked(text) == {"Which days are free of charge?": "- Monday\n- Friday"}
    for cut in (
        text[: text.index("\n\nOther")],
        text[4:].replace("following", "x"),
        text.replace("- Friday", "- Friday\n  at noon"),
    ):
        assert asked(cut) == {}
    wrapped = text.replace("- Monday\n", "- Monday\n  at noon\n- Tuesday\n")
    assert asked(wrapped) == {}


def test_steps_are_a_how_to_and_a_reasoned_one() -> None:
    assert asked(STEPS) == {"How do you install the pump?": "1. Close the valve.\n2. Fit the pump.\n3. Open the valve slowly."}
    (one,) = pairs(passage(STEPS), True, ("reasoning",), 3)
    assert one.question.startswith("How do you install the pump? ")
    assert (
        one.answer.splitlines()[1]
        == 'Plan: Follow the steps in the order given, from "Close the valve" to "Open the valve slowly".'
    )
    assert refusal(one, passage(STEPS)) == ""
    assert asked(STEPS.replace("1. ", "2. ")) == {}
    assert asked(STEPS.replace("To install the pump, do this:", "This happened:"), "News") == {}
    assert list(asked(STEPS.replace("To install the pump, do this:", "Steps:"), "Pumps > How to install a pump")) == [
        "How do you install a pump?"
    ]


def test_no_more_than_asked_for_and_each_question_once() -> None:
    text = "Oak House is a block of forty flats. Oak House is a block of 40 flats. Canal View was built in 1987. A wash costs 2 euros."
    assert len(asked(text)) == 3
    assert len(asked(text, most=2)) == 2


def test_everything_a_template_makes_passes_the_checks() -> None:
    text = f"Canal View was built in 1987. A closure is an anonymous function with state.\n\n{STEPS}"
    made = pairs(passage(text, "Houses > Canal View"), True, ("qa", "reasoning"), 9)
    assert len(made) == 4
    assert [refusal(one, passage(text, "Houses > Canal View")) for one in made] == [""] * 4
