"""Leadership: a lease in the control bucket, renewed by compare-and-set; its epoch grows with each leader.

Followers ask the leader's own subject twice a second: when nobody listens there any more it is gone, and one of them
takes the lease at once. A leader that is only silent is replaced when its lease has not been renewed for its whole
time.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson

from registry.shell.bus_nats import Bus, NobodyThereError
from registry.shell.clock import uptime
from registry.shell.entry import Entry
from registry.shell.jetstream_nats import PROMPT_TIMEOUT, StoreError
from registry.shell.logs import get_logger
from registry.shell.store import Store
from registry.shell.tasks import end
from registry.shell.trouble import Trouble

if TYPE_CHECKING:
    from agents_sdk.protocol.subjects import Subjects

log = get_logger(__name__)

KEY = "leader"
WATCH_INTERVAL = 0.5
"""Seconds between two looks of a follower at the leader, and between two attempts to renew a lease after one failed."""

HAND_OVER_TIMEOUT = 2.0
"""Seconds that a renewal may take to end before the lease is handed over all the same."""

RENEWALS = 5
"""In the time of one lease: JetStream may choose a leader for 4 to 9 s, which alone should hardly cost anybody the
lease."""


class Election:
    """Takes part in the election.

    Args:
        bus: The connection.
        store: Where the lease is.
        subjects: Names.
        replica: Id of this replica.
        lease: Seconds for which a lease holds.
        changed: Told whether this replica leads, and the epoch.
    """

    def __init__(
        self,
        bus: Bus,
        store: Store,
        subjects: Subjects,
        replica: str,
        lease: float,
        changed: Callable[[bool, int], Awaitable[None]],
    ) -> None:
        self.leading = False
        self.epoch = 0
        self.holder = ""
        """The replica that leads, as far as is known; empty if none is."""
        self._trouble = Trouble(log)
        self._bus = bus
        self._store = store
        self._subjects = subjects
        self._replica = replica
        self._lease = lease
        self._changed = changed
        self._newest_epoch = 0
        """The newest that was heard of. The bucket may be made anew, but an epoch must not come again."""
        self._revision = 0
        self._renewed = 0.0
        """Instant at which the newest renewal that took place was asked for."""
        self._doubted = 0.0
        """Instant before which renewals prove nothing any more."""
        self._certain = False
        """Whether the last renewal is known to have taken place."""
        self._unchanged: tuple[int, float] = (0, 0.0)
        """Revision of somebody else's lease, and the instant since which it has not been renewed."""
        self._wake = asyncio.Event()
        self._ending = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Stand for election; return after the first round, so that a lone replica leads at once."""
        await self._round()
        self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        """Step down and hand the lease over."""
        self._ending = True
        self._wake.set()
        if self._task is not None:
            # A renewal that is under way moves the revision on which the lease is handed over.
            await asyncio.wait([self._task], timeout=HAND_OVER_TIMEOUT)
        await end(self._task)
        if self.leading:
            await self._set(False)
            if not self._bus.connected:
                return
            try:
                lease = {"replica": "", "epoch": self.epoch}
                await self._store.put_control(KEY, lease, self._revision, within=PROMPT_TIMEOUT)
            except StoreError as error:
                log.warning("lease_not_handed_over", error=str(error))

    def holds(self) -> bool:
        """Return whether this replica is sure to lead: its lease was renewed since it was away, and has not run out."""
        return self.leading and self._doubted < self._renewed and uptime() - self._renewed <= self._lease

    def doubt(self) -> None:
        """Be sure of nothing until the lease is renewed: this replica was away, and another one may lead."""
        self._doubted = uptime()
        self._wake.set()

    async def check(self) -> None:
        """Step down if the lease has run out, for example because this process was stopped for a while."""
        if self.leading and uptime() - self._renewed > self._lease:
            log.warning("stepped_down", reason="the lease could not be renewed in time")
            await self._set(False)

    def noticed(self, entry: Entry) -> None:
        """Take note of the epoch, and look at once when the control bucket shows that the lease was handed over."""
        lease = _lease_in(entry)
        self._newest_epoch = max(self._newest_epoch, lease.get("epoch", 0))
        self.holder = lease.get("replica", "")
        if not self.leading and not lease.get("replica"):
            self._wake.set()

    async def _run(self) -> None:
        while True:
            interval = self._lease / RENEWALS
            if not (self.leading and self._certain and self.holds()):
                interval = min(interval, WATCH_INTERVAL)
            with contextlib.suppress(TimeoutError):  # when nothing was handed over, look as planned
                await asyncio.wait_for(self._wake.wait(), interval * random.uniform(0.8, 1.2))
            self._wake.clear()
            if self._ending:
                return
            try:
                await self._round()
            except Exception as error:  # the election goes on; a lease that is not renewed runs out
                self._trouble.defect("election_failed", error=error)

    async def _round(self) -> None:
        try:
            if self._bus.connected:
                await (self._renew() if self.leading else self._stand())
        except StoreError as error:
            self._trouble.warning("lease_unknown", error=str(error))
        else:
            if self._bus.connected:
                self._trouble.over("lease_unknown")
        await self.check()

    async def _renew(self) -> None:
        self._certain = False
        asked = uptime()
        revision = await self._put(self.epoch, self._revision)
        if revision is not None:
            self._revision, self._renewed, self._certain = revision, asked, True
            return
        found = await self._store.read_control(KEY)
        lease = _lease_in(found)
        if found is not None and lease.get("replica") == self._replica and lease.get("epoch") == self.epoch:
            self._revision = found.revision  # an earlier renewal took place after all; the next one is for sure
            return
        log.warning("stepped_down", reason="another replica took the lease")
        await self._set(False)

    async def _stand(self) -> None:
        found = await self._store.read_control(KEY)
        lease = _lease_in(found)
        revision = 0 if found is None else found.revision
        if lease.get("replica") and not await self._is_free(lease["replica"], revision):
            return
        epoch = max(int(lease.get("epoch", 0)), self._newest_epoch, self.epoch) + 1
        asked = uptime()
        taken = await self._put(epoch, revision)
        if taken is not None:
            self._revision, self._renewed, self._certain, self.epoch = taken, asked, True, epoch
            await self._set(True)

    async def _put(self, epoch: int, expected: int) -> int | None:
        return await self._store.put_control(KEY, {"replica": self._replica, "epoch": epoch}, expected, PROMPT_TIMEOUT)

    async def _is_free(self, holder: str, revision: int) -> bool:
        """Return whether the holder is gone, or has not renewed its lease for the whole of its time."""
        if holder == self._replica:
            return True  # from before an outage, in which this replica stepped down
        if self._unchanged[0] != revision:
            self._unchanged = (revision, uptime())
        try:
            await self._bus.request(self._subjects.replica(holder), b"", WATCH_INTERVAL)
        except NobodyThereError:
            return True
        except TimeoutError:
            pass  # silent, not provably gone: its lease decides
        return uptime() - self._unchanged[1] > self._lease

    async def _set(self, leading: bool) -> None:
        self.leading = leading
        log.info("leader" if leading else "follower", replica=self._replica, epoch=self.epoch)
        await self._changed(leading, self.epoch)


def _lease_in(entry: Entry | None) -> dict[str, Any]:
    """Return the lease that an entry holds; an empty one, which is free to take, for nothing and for nonsense."""
    try:
        lease = orjson.loads(entry.value) if entry is not None and entry.value else {}
        return {"replica": str(lease.get("replica", "")), "epoch": int(lease.get("epoch", 0))}
    except (AttributeError, TypeError, ValueError) as error:
        log.error("lease_unreadable", error=repr(error))  # noqa: TRY400
        return {}
