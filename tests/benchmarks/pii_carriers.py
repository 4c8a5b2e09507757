"""What cases of the benchmark of masking are, and the sentences, code and tables that carry them."""

from typing import NamedTuple


class Case(NamedTuple):
    """A text with one entity of a kind in it, or (kind "") with something that only looks like one."""

    kind: str
    entity: str
    text: str


PROSE = (
    "Please write to {} by Friday.",
    "You can reach us at {}.",
    "{}",
    "Contact: {}",
    "({})",
    "see {}, or ask at the desk",
    "- {}",
    "> {}",
    "**{}**",
    "`{}`",
    '"{}"',
    "<{}>",
    "| name | {} | open |",
    '{{"contact": "{}", "id": 7}}',
    "a,{},b",
    "It is {}; thanks.",
    "Was it {}?",
    "x\t{}\ty",
    "[link]({})",
    "value='{}'",
    "value={}",
    "[2024-03-01 10:00:00] user {} logged in",
    "Der Wert lautet {}.",
    "Voici : {} !",
    "#{}#",
    "{}\n",
    "first\n{}\nlast",
    "/* {} */",
    "// {}",
    "“{}”",
)
PHONE_PROSE = (
    "Call me on {}.",
    "Tel.: {}",
    "phone: {}",
    "Fax {}",
    "Tel. {} (office)",
    '{{"phone": "{}"}}',
    "Mobile: {}",
    "Tél : {}",
    "Handy {}",
    "{} is the number of the desk.",
    "Ring {} after six.",
    "Desk, {}, room 4",
    "| desk | {} |",
    "Desk;{};Bonn",
    "- {}",
    "reach her at {} or by mail",
    "WhatsApp {}",
    "M: {} | E: below",
    "tel:{}",
    "text {} now",
)
