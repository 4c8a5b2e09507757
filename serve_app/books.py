"""What a replica writes down in the background: shared counts, when keys were used, and attempts that were refused.

Nobody waits for it. What must be on disk before it is acknowledged (every change, with its audit entry) does not go through here.
"""

import asyncio
import logging
from collections import deque
from datetime import datetime

from cluster.catalog import Catalog, audit, sessions, users
from cluster.domain.audit import AuditEntry
from cluster.errors import one_sentence
from serve_app.identity import How, Identities
from serve_app.limits import Limits

log = logging.getLogger(__name__)
EVERY_SECONDS = 0.5
MOST_WAITING = 10_000


class Books:
    """One keeper for each replica. With more than ``MOST_WAITING`` refusals unwritten the oldest are let go."""

    def __init__(self, catalog: Catalog, limits: Limits, identities: Identities) -> None:
        self._catalog, self._limits, self._identities = catalog, limits, identities
        self._waiting: deque[AuditEntry] = deque(maxlen=MOST_WAITING)
        self._failing = False

    def note(self, entry: AuditEntry) -> None:
        """Write an entry down soon."""
        self._waiting.append(entry)

    async def keep(self) -> None:
        """Write again and again until cancelled."""
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            try:
                await self.write()
                self._failing = False
            except Exception as error:  # the edge: whatever it was, answering goes on and the next round tries again
                if not self._failing:
                    log.warning("counts and refusals wait to be written: %s", one_sentence(error))
                self._failing = True

    async def write(self) -> None:
        """Write what waits, in one transaction, and hear what the others counted; nothing when there is nothing to do."""
        entries, self._waiting = list(self._waiting), deque(maxlen=MOST_WAITING)
        used = self._identities.take_used()
        try:
            if entries or used or self._limits.to_tell:
                await asyncio.to_thread(self._write, entries, used)
            if self._limits.to_hear:
                await asyncio.to_thread(self._hear)
        except BaseException:
            self._waiting.extendleft(reversed(entries))
            raise

    def _write(self, entries: list[AuditEntry], used: dict[How, dict[str, datetime]]) -> None:
        with self._catalog.transaction() as work:
            audit.record(work, *entries)
            users.keys_used(work, used.get("key", {}))
            sessions.used(work, used.get("session", {}))
            self._limits.tell(work)

    def _hear(self) -> None:
        with self._catalog.reading() as work:
            self._limits.hear(work)
