"""Messages of a log to conversations: threading.

A message belongs to the conversation its id names, else to that of the message it replies to. Messages with neither are cut by
silence: in each channel a conversation ends where nobody wrote for the recipe's hours. Inside a conversation messages stand in order
of time, those without one where the file has them. Does not tell apart two conversations that run at once in one channel without ids.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta

from data_jobs.chat_formats import LogMessage, Thread, Unusable, checked

Key = tuple[str, ...]


def threaded(messages: Sequence[LogMessage], gap_hours: float) -> Iterator[tuple[int, Thread | Unusable]]:
    """The conversations in order of their first lines: that line, and the conversation or why it is none."""
    groups: dict[Key, list[LogMessage]] = defaultdict(list)
    loose: dict[str, list[LogMessage]] = defaultdict(list)
    roots = _roots(messages)
    threads = {message.identity: message.thread for message in messages if message.identity and message.thread}
    for message in messages:
        root = roots.get(message.identity) or roots.get(message.parent, message.parent)
        thread = message.thread or threads.get(root, "")
        if thread:
            groups["thread", message.channel, thread].append(message)
        elif root:
            groups["root", message.channel, root].append(message)
        else:
            loose[message.channel].append(message)
    for channel, several in loose.items():
        for number, one in enumerate(_cut(several, gap_hours)):
            groups["gap", channel, str(number)] = one
    whole = [_in_order(group) for group in groups.values()]
    for group in sorted(whole, key=lambda group: min(message.line for message in group)):
        yield min(message.line for message in group), _thread(group)


def _roots(messages: Sequence[LogMessage]) -> dict[str, str]:
    """Identity → identity of the first message of its chain of replies. A chain that bites its tail has its least one for a root."""
    parents = {message.identity: message.parent for message in messages if message.identity and message.parent}
    roots: dict[str, str] = {}
    for start in [*parents, *(message.parent for message in messages if message.parent)]:
        chain, here = {start: None}, start
        while here not in roots and here in parents and parents[here] not in chain:
            here = parents[here]
            chain[here] = None
        root = roots.get(here) or (min(chain) if here in parents else here)
        roots.update(dict.fromkeys(chain, root))
    return roots


def _in_order(group: list[LogMessage]) -> list[LogMessage]:
    """By time where every message has one, else as the file has them."""
    if any(message.time is None for message in group):
        return sorted(group, key=lambda message: message.line)
    return sorted(group, key=lambda message: (message.time, message.line))


def _cut(messages: list[LogMessage], gap_hours: float) -> Iterator[list[LogMessage]]:
    ordered, gap = _in_order(messages), timedelta(hours=gap_hours)
    start = 0
    for place in range(1, len(ordered)):
        before, after = ordered[place - 1].time, ordered[place].time
        if before is not None and after is not None and after - before > gap:
            yield ordered[start:place]
            start = place
    yield ordered[start:]


def _thread(group: Sequence[LogMessage]) -> Thread | Unusable:
    """A conversation's own keys (its category, say) are those of the first message that has them."""
    more = {key: value for message in reversed(group) for key, value in message.more.items()}
    try:
        return checked(Thread, {"messages": [message.said for message in group], "created_at": group[0].time, **more})
    except Unusable as error:
        return error
