"""What a JSON object is, told by its shape: a tracker's page or issue, a chat, or a record like any other."""

from typing import Any

from data_jobs.extract import issues, jira
from data_jobs.extract.chats import as_chat
from data_jobs.extract.part import Options, Part
from data_jobs.extract.record import as_part, has_field, too_deep


def known(value: dict[str, Any]) -> bool:
    """Whether the object is more than a record or a wrapper around records."""
    return not too_deep(value) and _known_parts(value, "") is not None


def parts_of(value: dict[str, Any], name: str, options: Options) -> list[Part]:
    """The object's documents. A record called ``name`` when it is nothing else, or when it has the text field of the options."""
    mapped = options.text_field is not None and has_field(value, options.text_field)
    parts = None if mapped or too_deep(value) else _known_parts(value, name)
    return [as_part(value, name, options)] if parts is None else parts


def _known_parts(value: dict[str, Any], name: str) -> list[Part] | None:
    if jira.is_page(value):
        return jira.parts_of_page(value)
    if jira.is_issue(value):
        return jira.parts_of_issue(value)
    if issues.is_bitbucket_export(value):
        return issues.parts_of_bitbucket(value)
    if issues.is_issue(value):
        return [issues.as_issue(value)]
    chat = as_chat(value, name)
    return None if chat is None else [chat]
