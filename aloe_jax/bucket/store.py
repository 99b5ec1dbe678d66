"""The objects below a folder of a bucket, through Google's client library.

Writes may be conditional on the generation of the object that they replace, which is how Google Cloud Storage orders
writers: every write of an object gives it a new generation, and 0 stands for an object that is not there
(https://cloud.google.com/storage/docs/request-preconditions).
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, TypeVar

from aloe_jax.bucket.places import SCHEME
from aloe_jax.errors import InputError, ResumableError
from aloe_jax.tree.schema import Record, parse

AT_ONCE = 8  # requests
REQUEST_SECONDS = 60.0  # for one answer
RETRY_SECONDS = 300.0  # in which a request is repeated
READS = 5  # of an object that is replaced while it is read
ABSENT = 0  # the generation of an object that is not there
R = TypeVar("R", bound=Record)


class ConflictError(Exception):
    """A conditional write was refused: another process has written the object."""


@dataclass(frozen=True)
class Version:
    """What tells the writes of an object apart: its generation, and the server's time of the write."""

    generation: int
    updated: datetime


@dataclass(frozen=True)
class Object:
    """An object in a listing; `checksum` is its CRC32C in base64."""

    size: int
    checksum: str


class Store:
    """The objects whose names begin with the folder of `url`, all of a bucket without one; here they are named relative
    to it. Several threads may use it.

    Raises InputError if the client library is missing, and in every method for a bucket that does not exist or that
    this account may not use; ResumableError if the server cannot be reached.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        bucket, _, folder = url.removeprefix(SCHEME).partition("/")
        self._prefix = f"{folder}/" if folder else ""
        check_installed(url)
        for name in ("google.auth", "google.api_core", "gcsfs"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # they print tracebacks in addition to our sentence
        with self._told():
            from google.cloud import storage

            self._client = storage.Client()
            self._bucket = self._client.bucket(bucket)

    def read(self, name: str) -> tuple[bytes, Version] | None:
        """The content of a small object and its version; None if it is not there."""
        from google.api_core.exceptions import NotFound, PreconditionFailed

        with self._told():
            for _ in range(READS):
                blob = self._bucket.get_blob(self._prefix + name, **self._patience())
                if blob is None:
                    return None
                with contextlib.suppress(NotFound, PreconditionFailed):  # replaced in this moment
                    data = blob.download_as_bytes(if_generation_match=blob.generation, **self._patience())
                    return data, Version(blob.generation, blob.updated)
        raise ResumableError(f"'{self.url}/{name}' changes while it is read; run the same command again")

    def write(self, name: str, data: bytes, expected: int | None = None, patience: float = RETRY_SECONDS) -> Version:
        """Write an object; with `expected`, only if that is its generation. ConflictError if it is not, which may be
        this very write, repeated after a lost answer."""
        blob = self._bucket.blob(self._prefix + name)
        with self._told():
            blob.upload_from_string(
                data, content_type=_type(name), if_generation_match=expected, **self._patience(patience)
            )
        return Version(blob.generation, blob.updated)

    def upload(self, name: str, file: IO[bytes], start: int, end: int) -> None:
        """Write an object from the bytes of a file from `start` up to `end`."""
        blob, part = self._bucket.blob(self._prefix + name), _Range(file.fileno(), start, end)
        with self._told():
            blob.upload_from_file(part, size=end - start, content_type=_type(name), **self._patience())

    def download(self, name: str, out: IO[bytes]) -> None:
        """Append the content of an object to an open file; the client compares it with the server's checksum.
        FileNotFoundError if it is not there."""
        from google.api_core.exceptions import NotFound

        blob = self._bucket.blob(self._prefix + name)
        with self._told():
            try:
                blob.download_to_file(out, **self._patience())
            except NotFound:
                raise FileNotFoundError(name) from None

    def copy(self, name: str, to: str) -> None:
        """Copy an object inside the bucket; nothing passes through this machine."""
        source, target = self._bucket.blob(self._prefix + name), self._bucket.blob(self._prefix + to)
        with self._told():
            token, *_ = target.rewrite(source, **self._patience())
            while token is not None:
                token, *_ = target.rewrite(source, token=token, **self._patience())

    def objects(self, below: str = "") -> dict[str, Object]:
        """All objects whose names begin with `below`."""
        with self._told():
            found = self._client.list_blobs(self._bucket, prefix=self._prefix + below, **self._patience())
            return {blob.name.removeprefix(self._prefix): Object(blob.size, blob.crc32c) for blob in found}

    def delete(self, names: Iterator[str] | list[str]) -> None:
        """Delete objects; one that is not there is no error."""
        from google.api_core.exceptions import NotFound

        def delete(name: str) -> None:
            with self._told(), contextlib.suppress(NotFound):
                self._bucket.blob(self._prefix + name).delete(**self._patience())

        with ThreadPoolExecutor(AT_ONCE, "aloe-bucket") as pool:
            list(pool.map(delete, names))

    @staticmethod
    def _patience(seconds: float = RETRY_SECONDS) -> dict[str, Any]:
        from google.cloud.storage.retry import DEFAULT_RETRY

        return {"timeout": min(seconds, REQUEST_SECONDS), "retry": DEFAULT_RETRY.with_timeout(seconds)}

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn the errors of the client library into ours."""
        from google.api_core import exceptions
        from google.auth.exceptions import GoogleAuthError
        from requests.exceptions import RequestException

        try:
            yield
        except exceptions.PreconditionFailed as error:
            raise ConflictError from error
        except (exceptions.NotFound, exceptions.Forbidden, exceptions.Unauthorized, exceptions.BadRequest) as error:
            raise InputError(
                f"'{self.url}' cannot be used ({error.code} {_reason(error)}); check the bucket, and that "
                "the account of this machine may read, write and delete objects there (docs/buckets.md names the roles)"
            ) from error
        except GoogleAuthError as error:
            raise InputError(
                f"'{self.url}' needs an account ({str(error).splitlines()[0]}); run `gcloud auth application-default "
                "login`, or give the virtual machine a service account"
            ) from error
        except (exceptions.GoogleAPIError, RequestException) as error:
            reason = f"{type(error).__name__}: {_reason(error)}"
            raise ResumableError(f"'{self.url}' cannot be reached ({reason}); the same command continues") from error


def _reason(error: Any) -> str:
    """What the server says: the message in its answer, which the client puts into its own as it came, many lines of
    JSON after an upload."""
    response: Any = getattr(error, "response", None)
    text = str(getattr(error, "message", error))
    try:
        text = response.json()["error"]["message"]
    except (AttributeError, ValueError, KeyError, TypeError):  # no answer, or no JSON in it
        text = getattr(response, "text", "") or text.rpartition("prettyPrint=false: ")[2] or text
    return " ".join(str(text).split())[:300]


class _Range(io.RawIOBase):
    """The bytes of an open file from `start` up to `end`, as a file of their own."""

    def __init__(self, descriptor: int, start: int, end: int) -> None:
        self._descriptor, self._start, self._end, self._at = descriptor, start, end, start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = os.preadv(self._descriptor, [memoryview(buffer)[: self._end - self._at]], self._at)
        self._at += found
        return found

    def tell(self) -> int:
        return self._at - self._start

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: self._start, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        self._at = origin + offset
        return self.tell()


def parsed(kind: type[R], data: bytes, where: str, remedy: str) -> R:
    """The record that an object of ours holds. InputError with the remedy if it is damaged."""
    try:
        return parse(kind, data.decode(), where)
    except UnicodeDecodeError:
        raise InputError(f"{where}: not UTF-8 text; {remedy}") from None
    except InputError as error:
        raise InputError(f"{error}; {remedy}") from None


def check_installed(url: str) -> None:
    """Raise InputError if the packages for buckets are missing: gcsfs, or Google's client with its google_crc32c."""
    if any(importlib.util.find_spec(name) is None for name in ("gcsfs", "google_crc32c")):
        raise InputError(
            f"'{url}' is in Google Cloud Storage, which needs other packages: run `pip install 'aloe_jax[gcs]'`"
        )


def checksums(folder: str) -> dict[str, str]:
    """The checksum of each object below a folder `gs://...`, by its name relative to that, as the server knows them;
    nothing is read."""
    found = Store(folder.rstrip("/")).objects()
    return {name: f"crc32c {each.checksum} {each.size}" for name, each in found.items()}


def forget_listings() -> None:
    """Let gcsfs, through which `epath` reads buckets, ask the server each time: it would remember listings from before
    other programs wrote, such as tensorstore in this process."""
    import fsspec

    for name in ("gs", "gcs"):
        fsspec.config.conf.setdefault(name, {})["use_listings_cache"] = False


def _type(name: str) -> str:
    """The type under which a browser gets an object."""
    kinds = {".html": "text/html", ".json": "application/json", ".jsonl": "text/plain", ".txt": "text/plain"}
    return kinds.get(Path(name).suffix, "application/octet-stream")
