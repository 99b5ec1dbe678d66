"""The files of a model or dataset folder that belong to it: what its card describes, and no other file beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.hub import adapter, config_file, tensors
from aloe_jax.hub.card import CARD_FILE, read_metadata
from aloe_jax.hub.folders import COPIED
from aloe_jax.hub.source import HUB_ID

Kind = Literal["model", "dataset"]


@dataclass(frozen=True)
class Pushed:
    """What is uploaded of a folder: names with `/` between folders, and sizes in bytes. `left` are the other files."""

    kind: Kind
    folder: Path
    sizes: Mapping[str, int]
    left: tuple[str, ...]


def pushed_files(folder: Path) -> Pushed:
    """What of `folder` is uploaded: a model's card, config, weights, tokenizer and licence, or a dataset's card and the
    data files that its `configs` name. Raises InputError for a folder without a card that can be read, one that is
    neither, one with a file missing, and for a link among the files."""
    if not folder.is_dir():
        raise InputError(f"'{folder}' is no folder; name one that `aloe export`, `aloe import` or `aloe convert` wrote")
    metadata = _metadata(folder)
    kind: Kind
    if (folder / config_file.CONFIG).exists() or (folder / adapter.CONFIG).exists():
        kind, names = "model", list(_model(folder))
        _check_base(folder, metadata)
    elif "configs" in metadata:
        kind, names = "dataset", [CARD_FILE, *_data_files(folder, metadata["configs"])]
    else:
        raise InputError(
            f"'{folder}' is no model ({config_file.CONFIG}) and its card names no data files (`configs`); name a "
            "folder that `aloe export`, or `aloe convert RUN --out=DIR`, wrote"
        )
    for name in names:
        path = folder / name
        if path.is_symlink() or not path.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"'{path}' is a link; put the file itself in its place")
        if not path.is_file():
            raise InputError(f"'{path}' is missing, so the folder is not complete; write it again")
    rest = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() or path.is_symlink()
    )
    sizes = {name: (folder / name).stat().st_size for name in dict.fromkeys(names)}
    return Pushed(kind, folder, sizes, tuple(name for name in rest if name not in sizes))


def _metadata(folder: Path) -> Mapping[str, object]:
    if not (folder / CARD_FILE).is_file():
        raise InputError(
            f"'{folder}' has no card ({CARD_FILE}), which says what it is and where it comes from; export a training "
            "with `aloe export DIR/preference --out=FOLDER`, or write one"
        )
    try:
        found = read_metadata(files.read_text(folder / CARD_FILE))
    except ValueError as error:
        raise InputError(
            f"{folder / CARD_FILE}: its metadata cannot be read ({error}); correct the block at its top"
        ) from None
    if not found:
        raise InputError(f"{folder / CARD_FILE} has no metadata; put a block between two lines `---` at its top")
    return found


def _model(folder: Path) -> Iterator[str]:
    """The names of a model's files. Those that a model may lack are taken where they are."""
    if (folder / adapter.CONFIG).exists():
        yield from (CARD_FILE, adapter.CONFIG, adapter.WEIGHTS)
    else:
        yield from (CARD_FILE, config_file.CONFIG)
        index = folder / tensors.INDEX
        if index.exists():
            yield index.name
            shards = files.read_object(index).get("weight_map")
            if not isinstance(shards, Mapping) or not shards:
                raise InputError(f"{index}: weight_map names no files; write the folder again")
            yield from sorted({_plain(str(name), index) for name in shards.values()})
        else:
            yield tensors.WEIGHTS
    yield from (name for name in COPIED if name != CARD_FILE and (folder / name).is_file())


def _data_files(folder: Path, configs: object) -> Iterator[str]:
    """The data files that a dataset card names: a text, a list of texts, or a list of {split, path}, without `*`."""
    for config in configs if isinstance(configs, list) else ():
        found = config.get("data_files") if isinstance(config, Mapping) else None
        for each in found if isinstance(found, list) else [found]:
            path = each.get("path") if isinstance(each, Mapping) else each
            if not isinstance(path, str):
                raise InputError(f"{folder / CARD_FILE}: data_files is {each!r}, expected the path of a file")
            yield _plain(path, folder / CARD_FILE)


def _plain(name: str, where: Path) -> str:
    """A file's name in its folder. InputError for one that leads out of it, is hidden, or has wildcards."""
    parts = name.split("/")
    if any(not part or part.startswith(".") or "\\" in part for part in parts) or set(name) & set("*?["):
        raise InputError(f"{where} names '{name}', expected a file inside the folder, not hidden and without wildcards")
    return name


def _check_base(folder: Path, metadata: Mapping[str, object]) -> None:
    """InputError for a base model that is a place on this machine, which nobody else has."""
    told = [(CARD_FILE, "base_model", metadata.get("base_model"))]
    if (folder / adapter.CONFIG).exists():
        key = "base_model_name_or_path"
        told.append((adapter.CONFIG, key, files.read_object(folder / adapter.CONFIG).get(key)))
    for file, key, value in told:
        for base in value if isinstance(value, list) else [value]:
            if base is not None and (not isinstance(base, str) or not HUB_ID.fullmatch(base) or Path(base).exists()):
                raise InputError(
                    f"{folder / file}: {key} is {base!r}, which others cannot load; set it to a hub id (owner/name)"
                )
