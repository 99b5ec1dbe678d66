"""The lease of a run directory in a bucket: one process writes there at a time.

It is an object that is written only on condition of its generation, so of two processes that want it one gets it. Its
holder renews it. Whether it has expired is decided by the server's clock alone: the time of its last write, compared
with that of an object written now. The generation with which it was taken, the term, is part of the name of everything
that its holder writes.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable

from aloe_jax.bucket.places import RECORDS
from aloe_jax.bucket.store import ABSENT, ConflictError, Store, Version, parsed
from aloe_jax.errors import InputError, ResumableError
from aloe_jax.tree.schema import Record

LEASE, CLOCK = f"{RECORDS}/lease.json", f"{RECORDS}/clock"
RENEWALS = 4  # in the time in which it expires
LOOK_SECONDS = 1.0  # between two looks at the lease of another process


class Holding(Record):
    """The content of the object.

    Attributes:
        id: of the process's own lease, which tells its writes from those of others.
        who: the process in words.
        sign: the same for programs, the text of the lock file of a run directory.
        seconds: after which it expires without a renewal.
        released: whether its holder has ended.
    """

    id: str
    who: str
    sign: str
    seconds: float
    released: bool = False


class Lease:
    """A lease that this process holds, and renews in a thread until `release`.

    `lost` is called in that thread, once, with a sentence, when another process has taken it, or when it was not
    renewed for so long that another process may.
    """

    def __init__(
        self, store: Store, holding: Holding, version: Version, asked: float, lost: Callable[[str], None]
    ) -> None:
        """`asked` is when the write was begun that gave it the lease, of the monotonic clock."""
        self.term = version.generation
        self._store, self._holding, self._lost = store, holding, lost
        self._generation, self._renewed = version.generation, asked
        self._ended, self._writing, self._sentence = threading.Event(), threading.Lock(), ""
        self._renewing = threading.Thread(target=self._renew_until_end, name="aloe-lease", daemon=True)
        self._renewing.start()

    def check(self) -> None:
        """Raise ResumableError if this process does not hold the lease any more."""
        if not self._sentence and time.monotonic() - self._renewed > self._holding.seconds:
            self._sentence = self._told("could not renew its lease in time")
        if self._sentence:
            raise ResumableError(self._sentence)

    def conflict(self) -> ResumableError:
        """The error after another process has written what only the holder writes; the lease is lost."""
        self._sentence = self._sentence or self._told("was taken over by another process")
        return ResumableError(self._sentence)

    def release(self) -> None:
        """Stop renewing and leave the lease to the next process."""
        self._ended.set()
        self._renewing.join()
        with contextlib.suppress(ConflictError, InputError, ResumableError):
            if not self._sentence:
                self._write(self._holding.model_copy(update={"released": True}))

    def _renew_until_end(self) -> None:
        seconds = self._holding.seconds
        while not self._ended.wait(seconds / RENEWALS):
            with contextlib.suppress(InputError, ResumableError):  # tried again until it is too late
                try:
                    self.check()  # this process may have been halted
                    self._write(self._holding)
                except ConflictError:
                    self.conflict()
            # Ending takes a moment too, so the last renewal must not have expired yet.
            if not self._sentence and time.monotonic() - self._renewed > seconds * (RENEWALS - 1) / RENEWALS:
                self._sentence = self._told("could not renew its lease in time")
            if self._sentence:
                self._lost(self._sentence)
                return

    def _write(self, holding: Holding) -> None:
        """Write the lease over its last generation. ConflictError if that is not there any more."""
        asked = time.monotonic()
        version = _written(self._store, holding, self._generation, self._holding.seconds / RENEWALS)
        self._generation, self._renewed = version.generation, asked

    def _told(self, what: str) -> str:
        return (
            f"the run in '{self._store.url}' {what}, so this process stops; what it uploaded before is kept, and the "
            "same command continues"
        )


def acquire(
    store: Store,
    who: str,
    sign: str,
    seconds: float,
    say: Callable[[str], None],
    lost: Callable[[str], None],
    gone: Callable[[str], bool] = lambda sign: False,
) -> Lease:
    """Take the lease, once it is free: released, expired, or of a process that is `gone`, which is asked with its sign.

    `say` displays what is waited for and what was taken over. Raises InputError if another process renews it.
    """
    mine = Holding(id=uuid.uuid4().hex, who=who, sign=sign, seconds=seconds)
    seen: int | None = None  # the generation of another process's lease that was there first
    while True:
        found, asked = read_lease(store), time.monotonic()
        if found is not None and not found[0].released:
            held, version = found
            age = _now(store) - version.updated.timestamp()
            if seen not in (None, version.generation):
                raise InputError(
                    f"--workdir: another `aloe run` works in '{store.url}' ({held.who}, last sign {max(age, 0):.0f} s "
                    "ago; `aloe status` shows how far it is); let it end, or choose another folder"
                )
            if not gone(held.sign) and age < held.seconds:
                if seen is None:
                    say(
                        f"'{store.url}' is held by {held.who}, last sign {max(age, 0):.0f} s ago; waiting "
                        f"{held.seconds:.0f} s for another one"
                    )
                seen = version.generation
                time.sleep(min(LOOK_SECONDS, max(held.seconds - age, 0.05)))
                continue
        try:
            version = _written(store, mine, ABSENT if found is None else found[1].generation, seconds)
        except ConflictError:
            continue
        if found is not None and not found[0].released:
            say(f"'{store.url}': taken over from {found[0].who}, which gave no sign for {age:.0f} s")
        return Lease(store, mine, version, asked, lost)


def read_lease(store: Store) -> tuple[Holding, Version] | None:
    """The lease and its version; None if nobody ever had it. InputError if it is damaged."""
    found = store.read(LEASE)
    if found is None:
        return None
    url = f"{store.url}/{LEASE}"
    remedy = f"if no `aloe run` works there, delete this object with `gcloud storage rm '{url}'`; the run itself stays"
    return parsed(Holding, found[0], url, remedy), found[1]


def _written(store: Store, holding: Holding, expected: int, patience: float) -> Version:
    """Write the lease over the generation `expected`. ConflictError if another process has written it; a write of our
    own whose answer got lost counts."""
    try:
        return store.write(LEASE, holding.model_dump_json().encode(), expected, patience)
    except ConflictError:
        if (found := read_lease(store)) is not None and found[0] == holding and found[1].generation != expected:
            return found[1]
        raise


def _now(store: Store) -> float:
    """The server's time, in seconds since the epoch."""
    return store.write(CLOCK, b"").updated.timestamp()
