"""The record of data generation in append-only files, so that an answer that was paid for is never requested again.

| file | one line per |
|---|---|
| `calls.jsonl` | call to a server: id (hash of the request), role, template, request, answers |
| `nodes.jsonl` | message of a turn whose calls all succeeded |
| `preferences.jsonl` | comparison of two replies, with both orders |
| `rejects.jsonl` | text that a guard turned down, and why |
| `events.jsonl` | conversation that ended early or was given up, warning, server probed |

One process writes, under a lock. Lines reach the operating system at once, so that a kill loses at most a torn last
line, which is cut off when the files are opened again; they reach the disk within a second. An interrupted conversation
is grown again from its stored answers, which gives the same turns. Memory holds the places of the answers only.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TypedDict, cast

from aloe_jax import files
from aloe_jax.errors import InputError, failed_write

CALLS, NODES, PREFERENCES, REJECTS, EVENTS = "calls", "nodes", "preferences", "rejects", "events"
GIVEN_UP = " given up"  # after a conversation's id, the key of its event
LEDGERS = (NODES, PREFERENCES, REJECTS, EVENTS)
# The texts without which a record says nothing.
NEEDED = {NODES: ("key",), PREFERENCES: ("key",), REJECTS: ("key", "reason"), EVENTS: ("key",)}
SYNC_EVERY = 1.0  # seconds between two syncs to the disk
# The line of a call begins with its id, so that ids are found without parsing JSON.
_HEAD = b'{"id":"'
_ID = 64  # hex digits


class StoredCall(TypedDict):
    """A call to a server: the role and the hash of its template, the request as it was sent, and the answers."""

    id: str
    role: str
    template: str
    request: Mapping[str, object]
    answers: list[Mapping[str, object]]


REMEDY = "restore the file, or move the folder away to start over"


class Ledger:
    """One append-only file of JSON lines; a torn last line is cut off when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        files.repair_lines(path)
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - closed with the store
        self.size = self._file.tell()

    def append(self, line: bytes) -> int:
        """The place of a line that is appended. Raises ResumableError if there is no room."""
        start, data = self.size, line + b"\n"
        try:
            written = self._file.write(data)
            if written != len(data):
                raise OSError(28, os.strerror(28))
        except OSError as error:
            raise failed_write(self.path, error) from error
        self.size += len(data)
        return start

    def sync(self) -> None:
        """Sync what was written to the disk."""
        with contextlib.suppress(ValueError):  # closed in the meantime, which synced it
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Sync and close the file."""
        os.fsync(self._file.fileno())
        self._file.close()


class Store:
    """The files in `directory`, which is created if it is missing. Use as `with Store(directory) as store`.

    Raises InputError if another process writes there, and for a damaged line before the last one.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __enter__(self) -> Store:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.directory / ".writer", os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise InputError(
                f"another process writes in '{self.directory}'; let it end, or use another folder"
            ) from None
        self._ledgers = {name: Ledger(self.directory / f"{name}.jsonl") for name in (CALLS, *LEDGERS)}
        self._reader = open(self.directory / f"{CALLS}.jsonl", "rb")
        self._places = dict(_call_places(self.directory / f"{CALLS}.jsonl"))
        self._keys = {name: {str(record["key"]) for record in records(self.directory, name)} for name in LEDGERS}
        self._syncing = ThreadPoolExecutor(1, "aloe-store")
        self._synced, self._push = time.monotonic(), Future[None]()
        self._push.set_result(None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._syncing.shutdown()
        for ledger in self._ledgers.values():
            ledger.close()
        self._reader.close()
        os.close(self._lock)

    @property
    def calls(self) -> int:
        """The number of stored calls."""
        return len(self._places)

    def call(self, name: str) -> StoredCall | None:
        """The stored call with that id; None if there is none."""
        place = self._places.get(bytes.fromhex(name))
        if place is None:
            return None
        self._reader.seek(place)
        path = self.directory / f"{CALLS}.jsonl"
        try:
            return _call(self._reader.readline().decode())
        except ValueError:
            raise InputError(f"{path} at byte {place:,}: damaged; {REMEDY}") from None

    def add_call(self, name: str, record: Mapping[str, object]) -> None:
        """Store a call under its id (64 hex digits)."""
        line = files.json_line({"id": name, **record}, compact=True).encode()
        self._places[bytes.fromhex(name)] = self._ledgers[CALLS].append(line)
        self._sync()

    def add(self, ledger: str, key: str, record: Mapping[str, object]) -> bool:
        """Append a record under a key of its own; returns False and writes nothing if the key exists already."""
        if key in self._keys[ledger]:
            return False
        line = files.json_line({"key": key, **record}, compact=True)
        self._ledgers[ledger].append(line.encode())
        self._keys[ledger].add(key)
        self._sync()
        return True

    def has(self, ledger: str, key: str) -> bool:
        """Whether there is a record with that key."""
        return key in self._keys[ledger]

    def begun(self) -> set[str]:
        """The ids of the conversations of which there is a turn, or which were given up."""
        turns = {key.rpartition(" ")[0] for key in self._keys[NODES]}
        return turns | {key.removesuffix(GIVEN_UP) for key in self._keys[EVENTS] if key.endswith(GIVEN_UP)}

    def _sync(self) -> None:
        now = time.monotonic()
        if now - self._synced >= SYNC_EVERY and self._push.done():
            self._synced = now
            self._push = self._syncing.submit(self._sync_all)

    def _sync_all(self) -> None:
        for ledger in self._ledgers.values():
            ledger.sync()


def records(directory: Path, ledger: str) -> Iterator[Mapping[str, object]]:
    """Records of a ledger in the order of writing; a torn last line, of a run that is writing, is left out."""
    path = directory / f"{ledger}.jsonl"
    if path.exists():
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if line.endswith(b"\n"):
                    yield _parsed(line, ledger, path, number)


def check_lines(directory: Path) -> None:
    """Raise InputError for a file of a finished store that is missing, and for the first line that cannot be read."""
    for ledger in (CALLS, *LEDGERS):
        path = directory / f"{ledger}.jsonl"
        if not files.ordinary(files.existing(path)):
            raise InputError(f"{path} is not an ordinary file; {REMEDY}")
        for number, line in files.lines(path):
            if ledger != CALLS:
                _parsed(line, ledger, path, number)
                continue
            try:
                _call_id(line.encode())
                _call(line)
            except ValueError:
                raise _damaged(path, number) from None


def _call_places(path: Path) -> Iterator[tuple[bytes, int]]:
    """The id and the place of each call."""
    place = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield _call_id(line), place
            except ValueError:
                raise _damaged(path, number) from None
            place += len(line)


def _call_id(line: bytes) -> bytes:
    """The id at the start of a call's line. ValueError if there is none."""
    if not line.startswith(_HEAD):
        raise ValueError
    return bytes.fromhex(line[len(_HEAD) : len(_HEAD) + _ID].decode())


def _call(line: str) -> StoredCall:
    """The call in a line. ValueError for a line without answers."""
    record = files.loads(line)
    if not isinstance(record, dict) or not isinstance(record.get("answers"), list):
        raise ValueError
    return cast(StoredCall, record)


def _parsed(line: bytes | str, ledger: str, path: Path, number: int) -> Mapping[str, object]:
    try:
        record = files.loads(line if isinstance(line, str) else line.decode())
        if not isinstance(record, dict) or not all(isinstance(record.get(name), str) for name in NEEDED[ledger]):
            raise ValueError
        if ledger == PREFERENCES and not _readable(record.get("orders")):
            raise ValueError
    except ValueError:
        raise _damaged(path, number) from None
    return record


def _readable(orders: object) -> bool:
    """Whether it is the verdict of both orders of a pair, two probabilities, or none at all."""
    numbers = isinstance(orders, list) and len(orders) == 2 and all(type(one) in (int, float) for one in orders)
    return orders is None or numbers


def _damaged(path: Path, number: int) -> InputError:
    return InputError(f"{path} line {number}: damaged; {REMEDY}")
