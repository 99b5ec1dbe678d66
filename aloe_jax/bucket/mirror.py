"""The local copy of a run directory in a bucket, on the one process that writes there.

`commit` brings the bucket to the state of the copy at one moment: it uploads what is new and replaces the snapshot. A
thread does so at intervals for what was appended. On the next machine `restore` makes the copy from the bucket.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from aloe_jax import files
from aloe_jax.bucket import tree
from aloe_jax.bucket.fetch import fetch, whole_and_equal
from aloe_jax.bucket.lease import Lease
from aloe_jax.bucket.places import MARKER
from aloe_jax.bucket.settings import BucketSettings
from aloe_jax.bucket.snapshot import PARTS, SNAPSHOT, Part, Snapshot, kept_parts, read_snapshot, size_of
from aloe_jax.bucket.store import AT_ONCE, ConflictError, Store
from aloe_jax.bucket.tree import Look
from aloe_jax.errors import InputError, ResumableError

CONFIG = "config.json"  # at the top of a run directory (run/stage.py)
STATE = ".snapshot"  # in the copy: the id of the last snapshot that was made of it
LOOK_SECONDS = 2.0  # between two looks at how much was appended
TRIES = 100  # to look at files of which one is replaced meanwhile


@dataclass(frozen=True)
class _Kept:
    """A file as the bucket has it: its state when it was uploaded, and its parts. A ledger is kept open, so that no
    other file gets the number of its inode."""

    look: Look
    parts: tuple[Part, ...]
    file: IO[bytes] | None = None


class Mirror:
    """The copy in the folder `root` and the bucket, between `restore` and `close`. Its methods may be called from
    several threads. ResumableError once the lease is lost, or if the bucket cannot be reached."""

    def __init__(self, store: Store, lease: Lease, root: Path, settings: BucketSettings) -> None:
        self._store, self._lease, self.root, self._settings = store, lease, root, settings
        self._numbers = itertools.count()
        self._snapshot, self._generation = read_snapshot(store)
        self._kept: dict[str, _Kept] = {}
        self._garbage: set[str] = set()  # objects that the snapshot before did need, for who reads it now
        self._lock, self._ended = threading.RLock(), threading.Event()
        self._uploading = threading.Thread(target=self._upload_until_end, name="aloe-upload", daemon=True)

    def restore(self) -> int:
        """Make the copy from the bucket; returns the number of bytes downloaded. Where the copy was made by the last
        writer itself it is kept, with all that this had not uploaded. InputError for a run that was copied there from
        another place: its checkpoints and files would be taken for what this run has written."""
        if not self._snapshot.id and CONFIG in self._store.objects(CONFIG):
            raise InputError(
                f"--workdir: '{self._store.url}' holds a run that was copied there, which cannot go on in a bucket; "
                "give another folder, or continue it on a disk"
            )
        downloaded, objects = 0, self._store.objects(PARTS)
        if self._snapshot.id and self._state() == self._snapshot.id:
            equal = whole_and_equal(self.root, self._snapshot, objects)
        else:
            shutil.rmtree(self.root, ignore_errors=True)
            self.root.mkdir(parents=True)
            (self.root / MARKER).write_text(self._store.url)
            downloaded = fetch(self._store, self._snapshot, self.root, lambda name: True)
            equal = list(self._snapshot.files)
        self._kept = {name: _as_stored(self.root / name, self._snapshot.files[name]) for name in equal}
        self._write_state()
        self._store.delete(sorted(set(objects) - self._snapshot.names))  # uploaded before a kill, and never listed
        self._uploading.start()
        return downloaded

    def commit(self, whole: bool = False, joined: str = "") -> None:
        """Bring the bucket to the state of the copy now. Unless `whole`, large files that are no ledgers have time
        until the end of the stage. The files of the folder `joined` become one object each."""
        with self._lock:
            self._lease.check()
            looks, opened = self._look(whole, joined)
            try:
                with ThreadPoolExecutor(AT_ONCE, "aloe-bucket") as pool:
                    done = pool.map(lambda name: self._uploaded(name, looks[name], opened.get(name), joined), looks)
                    kept = dict(zip(looks, done, strict=True))
                parts = {name: each.parts for name, each in kept.items()}
                self._replace(Snapshot(files=parts, copies=self._snapshot.copies))
            except BaseException:
                _close(opened.values())
                raise
            held = {each.file for each in kept.values()}
            _close(
                file for file in (*opened.values(), *(each.file for each in self._kept.values())) if file not in held
            )
            self._kept = kept
            self._write_state()

    def finish(self, stage: str) -> None:
        """Commit a finished stage, and copy its files to their own paths, `URL/STAGE/FILE`, for other programs; without
        a stage those at the top of the run directory."""
        with self._lock:
            self.commit(whole=True, joined=stage)
            self._copy_out(lambda name: "/" not in name or _within(name, stage))

    def close(self) -> None:
        """Commit all that is there, if the lease is still held, and stop uploading."""
        self._ended.set()
        if self._uploading.is_alive():
            self._uploading.join()
        self.commit(whole=True)
        with contextlib.suppress(InputError, ResumableError):
            self._store.delete(sorted(self._garbage))

    def _look(self, whole: bool, joined: str) -> tuple[dict[str, Look], dict[str, IO[bytes]]]:
        """The files to commit as they are at one moment, and those of them that have to be uploaded, open: what takes
        the place of one from now on is another file."""
        for _ in range(TRIES):
            looks = tree.look_at(self.root)
            looks = tree.chosen(looks, {name: kept.look for name, kept in self._kept.items()}, whole)
            opened: dict[str, IO[bytes]] = {}
            with contextlib.suppress(FileNotFoundError):
                for name, look in looks.items():
                    if not self._is_open(name, look, joined):
                        opened[name] = open(self.root / name, "rb")  # noqa: SIM115 - closed by `commit`
                        if not tree.look(opened[name].fileno()).is_still(look):
                            break
                else:
                    return looks, opened
            _close(opened.values())
        raise ResumableError(f"the files in '{self.root}' change too fast to be uploaded; run the same command again")

    def _is_open(self, name: str, look: Look, joined: str) -> bool:
        """Whether a file is in the bucket as it is, or is a ledger that grew, which is open already."""
        before = self._kept.get(name)
        if before is None:
            return False
        same = before.look == look and not (len(before.parts) > 1 and _within(name, joined))
        return same or (before.file is not None and look.inode == before.look.inode and look.size >= before.look.size)

    def _uploaded(self, name: str, look: Look, opened: IO[bytes] | None, joined: str) -> _Kept:
        """A file after what is new in it was uploaded. `opened` is None if it `_is_open`."""
        before = self._kept.get(name)
        join, ledger = _within(name, joined), name.endswith(tree.LEDGERS)
        if opened is not None:
            return _Kept(look, self._upload(opened, name, look, (), join), opened if ledger else None)
        assert before is not None
        if before.look == look and not (join and len(before.parts) > 1):
            return before
        assert before.file is not None
        return _Kept(look, self._upload(before.file, name, look, before.parts, join), before.file)

    def _upload(self, file: IO[bytes], name: str, look: Look, before: tuple[Part, ...], join: bool) -> tuple[Part, ...]:
        """The parts of a file of which the bucket has those of `before`, after the rest was uploaded."""
        end = tree.whole_lines(file, look.size) if name.endswith(tree.LEDGERS) else look.size
        if before and end <= size_of(before) and not (join and len(before) > 1):
            return before
        kept = () if join else kept_parts(before, end)
        start = size_of(kept)
        new = Part(name=f"{PARTS}{self._lease.term}/{next(self._numbers)}", size=end - start)
        self._store.upload(new.name, file, start, end)
        return (*kept, new)

    def _copy_out(self, wanted: Callable[[str], bool]) -> None:
        before, names = self._snapshot, [name for name in self._snapshot.files if wanted(name)]
        stale = [name for name in before.copies if wanted(name) and name not in before.files]
        single = {name: before.files[name][0].name for name in names if len(before.files[name]) == 1}
        new = {name: part for name, part in single.items() if before.copies.get(name) != part}
        if not new and not stale:
            return
        with ThreadPoolExecutor(AT_ONCE, "aloe-bucket") as pool:
            list(pool.map(lambda item: self._copy(item[1], item[0]), new.items()))
        self._store.delete(stale)
        copies = {name: part for name, part in before.copies.items() if name not in stale} | new
        self._replace(Snapshot(files=before.files, copies=copies))
        self._write_state()

    def _copy(self, part: str, name: str) -> None:
        self._lease.check()
        self._store.copy(part, name)

    def _replace(self, snapshot: Snapshot) -> None:
        """Replace the snapshot, if it has changed. The objects that only the one before the last needs are deleted."""
        if (snapshot.files, snapshot.copies) == (self._snapshot.files, self._snapshot.copies):
            return
        snapshot = snapshot.model_copy(update={"id": uuid.uuid4().hex})
        self._lease.check()
        try:
            written = self._store.write(SNAPSHOT, snapshot.model_dump_json().encode(), self._generation)
            generation = written.generation
        except ConflictError:
            found, generation = read_snapshot(self._store)
            if found.id != snapshot.id:  # not a write of our own whose answer got lost
                raise self._lease.conflict() from None
        unneeded, self._garbage = sorted(self._garbage), self._snapshot.names - snapshot.names
        self._snapshot, self._generation = snapshot, generation
        self._store.delete(unneeded)

    def _upload_until_end(self) -> None:
        """Commit at intervals, and when much was appended. A bucket that cannot be reached for a while is no error
        here: the lease says when it was too long."""
        last = time.monotonic()
        while not self._ended.wait(min(LOOK_SECONDS, self._settings.upload_seconds)):
            due = time.monotonic() - last >= self._settings.upload_seconds
            if due or self._appended() >= self._settings.upload_bytes:
                with contextlib.suppress(InputError, ResumableError):
                    self.commit()
                last = time.monotonic()

    def _appended(self) -> int:
        """The bytes in ledgers that the bucket does not have."""
        with self._lock:
            kept = {name: size_of(each.parts) for name, each in self._kept.items()}
        return sum(
            max(look.size - kept.get(name, 0), 0)
            for name, look in tree.look_at(self.root).items()
            if name.endswith(tree.LEDGERS)
        )

    def _state(self) -> str:
        """The snapshot that the copy goes on from; empty if it is not known."""
        with contextlib.suppress(OSError):
            return (self.root / STATE).read_text()
        return ""

    def _write_state(self) -> None:
        files.write_text(self.root / STATE, self._snapshot.id)


def _within(name: str, folder: str) -> bool:
    """Whether a file is in the folder; none is in ""."""
    return folder != "" and name.startswith(f"{folder}/")


def _close(opened: Iterable[IO[bytes] | None]) -> None:
    for file in opened:
        if file is not None:
            file.close()


def _as_stored(path: Path, parts: tuple[Part, ...]) -> _Kept:
    """A file that begins with its parts, and has nothing else unless it is a ledger."""
    if not path.name.endswith(tree.LEDGERS):
        return _Kept(tree.look(path), parts)
    file = open(path, "rb")  # noqa: SIM115 - closed when the file is replaced
    return _Kept(Look(tree.look(file.fileno()).inode, size_of(parts), 0), parts, file)
