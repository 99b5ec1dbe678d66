"""Model folders: created atomically, cached, their tokenizer files checked and copied."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError, failed_write

# To be raised when the converter writes something else for the same source; cached folders of before are then ignored.
CONVERTER_VERSION = 2

TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
CHAT_TEMPLATE = "chat_template.jinja"
OLDER_TEMPLATE = "chat_template.json"
ADAPTER = "adapter_config.json"
GENERATION_CONFIG = "generation_config.json"
# The files that make a conversation tokens, and say where a reply ends. Only data: no Python file is ever copied.
CONVERSING = (
    TOKENIZER,
    TOKENIZER_CONFIG,
    CHAT_TEMPLATE,
    OLDER_TEMPLATE,
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    GENERATION_CONFIG,
)
COPIED = (*CONVERSING, "LICENSE", "README.md")  # the files of a model besides its weights and config


@contextlib.contextmanager
def new_folder(out: Path, overwrite: bool = False) -> Iterator[Path]:
    """A new folder that becomes `out` when the block succeeds and is removed when it fails. Of a symbolic link the
    target is replaced.

    Raises InputError as `check_new` does, and ResumableError for a failed write. An earlier folder `out` is not touched
    until the new one is complete.
    """
    check_new(out, overwrite)
    out = Path(os.path.realpath(out))
    marker = f".{out.name}.{socket.gethostname()}-"
    partial = out.parent / f"{marker}{os.getpid()}.partial"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(out.parent, marker)
        partial.mkdir()
        yield partial
        _put(partial, out, overwrite)
    except OSError as error:
        raise failed_write(error.filename or out, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_new(out: Path, overwrite: bool) -> None:
    """Raise InputError if `out` is a file, a folder with content without `overwrite`, or one with folders of its own,
    which no model folder has and which are not to be lost; also called before long work."""
    if out.exists() and not out.is_dir():
        raise InputError(f"'{out}' is a file; give a new folder")
    if not overwrite:
        _refuse_content(out)
    elif (inner := next((path for path in _content(out) if path.is_dir() and not path.is_symlink()), None)) is not None:
        raise InputError(
            f"--overwrite: '{out}' holds the folder '{inner.name}', so it is no model folder to replace; give another "
            "one, or remove it yourself"
        )


def _put(partial: Path, out: Path, overwrite: bool) -> None:
    """Rename `partial` to `out`. A folder cannot replace one with content, so that one is renamed first."""
    if overwrite and out.exists():
        aside = partial.with_suffix(".old")
        out.rename(aside)
        partial.rename(out)
        shutil.rmtree(aside)
        return
    try:
        partial.rename(out)
    except OSError:
        _refuse_content(out)  # another process was faster
        raise


def _content(out: Path) -> list[Path]:
    return sorted(out.iterdir()) if out.is_dir() else []


def _refuse_content(out: Path) -> None:
    if _content(out):
        raise InputError(f"folder '{out}' is not empty; give a new one, or replace it with --overwrite")


def _remove_abandoned(parent: Path, marker: str) -> None:
    """Remove partial folders of killed processes of this host. One with our own process id is such a folder as well,
    since containers reuse the same few ids."""
    for path in parent.iterdir():
        owner = path.name.removeprefix(marker).removesuffix(".partial")
        if path.name != f"{marker}{owner}.partial" or not owner.isdecimal():
            continue
        if int(owner) == os.getpid() or not _alive(int(owner)):
            shutil.rmtree(path, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # another user's
    return True


def cache_root() -> Path:
    """The cache folder of converted models: $ALOE_CACHE, else ~/.cache/aloe_jax."""
    return Path(os.environ.get("ALOE_CACHE") or "~/.cache/aloe_jax").expanduser()


def cached(source: Path, make: Callable[[Path], None]) -> Path:
    """The cached folder of a source file; `make(folder)` fills it if it is new.

    Two processes may do so at the same time with the same result; the later one keeps the existing folder.
    """
    return cached_as(f"{source.stem}-{files.hash_file(source)[:16]}", make)


def cached_as(name: str, make: Callable[[Path], None]) -> Path:
    """The cached folder `name`, which depends on all that `make(folder)` fills it with if it is new."""
    folder = cache_root() / "models" / f"{name}-v{CONVERTER_VERSION}"
    if not folder.exists():
        try:
            with new_folder(folder) as partial:
                make(partial)
        except InputError:
            if not folder.exists():
                raise
    return folder


def checked_tokenizer(folder: epath.Path) -> None:
    """Raise InputError unless `folder` has a tokenizer.json that needs no remote code, and a chat template."""
    if not (folder / TOKENIZER).exists():
        raise InputError(f"{folder}: {TOKENIZER} is missing; use a model whose repository has one")
    settings = files.read_json(folder / TOKENIZER_CONFIG) if (folder / TOKENIZER_CONFIG).exists() else {}
    if not isinstance(settings, dict):
        raise InputError(f"{folder}: {TOKENIZER_CONFIG} must hold a JSON object, not {type(settings).__name__}")
    if "auto_map" in settings:
        raise InputError(f"{folder}: {TOKENIZER_CONFIG} requires the source's own code (auto_map), which is never run")
    if not settings.get("chat_template") and not any(
        (folder / name).exists() for name in (CHAT_TEMPLATE, OLDER_TEMPLATE)
    ):
        raise InputError(
            f"{folder}: the tokenizer has no chat template; use an instruct model, or choose a template with "
            "config.model.template (of `aloe import`: --template), such as chatml or plain"
        )


def refuse_adapter(folder: epath.Path) -> None:
    """Raise InputError for a folder with a PEFT adapter, alone or beside a model: transformers would apply it."""
    if not (folder / ADAPTER).exists():
        return
    found = files.read_json(folder / ADAPTER)
    base = found.get("base_model_name_or_path") if isinstance(found, dict) else None
    whole = any((folder / name).exists() for name in ("model.safetensors", "model.safetensors.index.json"))
    what = "beside the weights of a model" if whole else f"of the model '{base}' and not a model"
    remedy = "take adapter_config.json and its weights out of the folder, or " if whole else ""
    raise InputError(
        f"{folder}: {ADAPTER} says that this is a PEFT adapter {what}; {remedy}merge it into its model (peft: "
        "`merge_and_unload`, then `save_pretrained`)"
    )


def hub_snapshots(folder: epath.Path) -> list[epath.Path]:
    """The folders of models in an entry of the hub's cache (`models--owner--name`); none in any other folder."""
    inside = folder / "snapshots"
    return sorted(path for path in inside.iterdir() if path.is_dir()) if inside.is_dir() else []


def copy_companions(source: epath.Path, out: Path, names: Sequence[str] = COPIED) -> None:
    """Copy the files of `names` that `source` has: tokenizer, generation config, licence and card."""
    for name in names:
        if files.ordinary(source / name):
            (out / name).write_bytes((source / name).read_bytes())
