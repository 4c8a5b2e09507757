"""What a JSON object is, told by its shape: a tracker's page or issue, a chat, or a record like any other."""

from typing import Any

from data_jobs.extract import issues, jira
from data_jobs.extract.chats import as_chat
from data_jobs.extract.part import Options, Part
from data_jobs.extract.record import as_part, has_field, too_deep


def parts_of(value: dict[str, Any], name: str, options: Options) -> list[Part]:
    """The object's documents. A record called ``name`` when it is nothing else."""
    parts = shaped(value, name, options)
    return [as_part(value, name, options)] if parts is None else parts


def shaped(value: dict[str, Any], name: str, options: Options) -> list[Part] | None:
    """The documents of an object that is more than a record; None for a record.

    A text field of the options makes a record of everything that has it, and of every chat.
    """
    if (options.text_field and has_field(value, options.text_field)) or too_deep(value):
        return None
    if jira.is_page(value):
        return jira.parts_of_page(value)
    if jira.is_issue(value):
        return jira.parts_of_issue(value)
    if issues.is_bitbucket_export(value):
        return issues.parts_of_bitbucket(value)
    if issues.is_issue(value):
        return [issues.as_issue(value)]
    chat = None if options.text_field else as_chat(value, name)
    return None if chat is None else [chat]
