"""A model with another chat template than its own, for base models, which have none.

The templates that ship are those of families, in our own wording: `chatml`, `llama3` and `gemma` need a vocabulary with
the family's special tokens, which base models often have; `plain` writes the roles as text and ends replies with the
tokenizer's eos token, so it suits any vocabulary.
"""

from __future__ import annotations

import importlib.resources
from pathlib import Path

from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.hub import config_file, folders
from aloe_jax.hub.byte_ranges import is_store
from aloe_jax.hub.identity import DECIDING
from aloe_jax.tree.schema import Message
from aloe_jax.tree.template import ChatFormat

_SHIPPED = importlib.resources.files("aloe_jax.hub") / "templates"


def families() -> list[str]:
    """The names of the templates that ship."""
    return sorted(Path(entry.name).stem for entry in _SHIPPED.iterdir() if entry.name.endswith(".jinja"))


def template_text(template: str) -> str:
    """The text of a template: a family that ships, or a file. Raises InputError for anything else."""
    if template in families():
        return (_SHIPPED / f"{template}.jinja").read_text()
    if not Path(template).expanduser().is_file():
        raise InputError(
            f"chat template '{template}' is neither a file nor one that ships; expected a path or one of "
            f"{', '.join(families())}"
        )
    return files.read_text(Path(template).expanduser())


def templated(folder: epath.Path, template: str) -> epath.Path:
    """The Hugging Face folder `folder` with the chat template `template` (a family or a file), or as it is if that is
    empty.

    The result is a folder in our cache: links to the model's files, and of its own the template, which replaces any
    that the model has, and all end-of-turn tokens as ends of generation, so that other libraries stop there too.

    Raises InputError for an unknown template, one whose replies do not end with an end-of-turn token of the tokenizer,
    and a model in an object store.
    """
    if not template:
        return folder
    if is_store(folder):
        raise InputError(f"'{folder}' is in an object store, where no chat template can be put beside it; copy it here")
    text, source = template_text(template), Path(folder).resolve()
    names = sorted(path.name for path in source.iterdir() if path.is_file())
    deciding = [files.hash_file(source / name) for name in DECIDING if name in names]
    digest = files.sha256(text, str(source), *names, *deciding)

    def make(out: Path) -> None:
        ends = _ends_of_turn(folder, template, text)
        files.write_text(out / folders.CHAT_TEMPLATE, text)
        files.write_json(out / folders.TOKENIZER_CONFIG, _tokenizer_config(folder))
        files.write_json(out / folders.GENERATION_CONFIG, _generation_config(folder, ends))
        for name in names:
            if name != folders.OLDER_TEMPLATE and not (out / name).exists():
                (out / name).symlink_to(source / name)

    return epath.Path(folders.cached_as(f"{source.name}-{digest[:16]}", make))


def _ends_of_turn(folder: epath.Path, template: str, text: str) -> list[int]:
    """The ids of the tokens that end a turn, with one of which the template ends replies."""
    chat = ChatFormat.load(folder, template=text, name=f"chat template '{template}' for {folder}")
    asked, answered = Message(role="user", content="Hello"), Message(role="assistant", content="Hi")
    prompt, whole = chat.render([asked], True), chat.render([asked, answered], False)
    if not whole.startswith(prompt):
        raise chat.template.not_a_continuation([asked, answered])
    if chat.end_of_turn.search(whole, len(prompt)) is None:
        raise InputError(
            f"{chat.template.name} ends the reply with none of the end-of-turn tokens "
            f"{', '.join(chat.tokenizer.end_of_turn_texts)}; choose one that does, such as plain"
        )
    return sorted(chat.tokenizer.end_of_turn_ids)


def _tokenizer_config(folder: epath.Path) -> dict[str, object]:
    """The content of tokenizer_config.json without a chat template."""
    path = folder / folders.TOKENIZER_CONFIG
    settings = files.read_object(path) if path.exists() else {}
    return {key: value for key, value in settings.items() if key != "chat_template"}


def _generation_config(folder: epath.Path, more: list[int]) -> dict[str, object]:
    """The content of generation_config.json with `more` among the tokens that end a generation."""
    path = folder / folders.GENERATION_CONFIG
    settings = files.read_object(path) if path.exists() else {}
    known = settings.get("eos_token_id", files.read_object(folder / config_file.CONFIG).get("eos_token_id"))
    ends = known if isinstance(known, list) else [] if known is None else [known]
    return {**settings, "eos_token_id": list(dict.fromkeys([*ends, *more]))}
