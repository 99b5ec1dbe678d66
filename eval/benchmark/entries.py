"""What is measured, by name: models, and models under a control. A result stands in the folder of its name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from aloe_jax.errors import InputError
from aloe_jax.serve.settings import plain_address
from aloe_jax.train.names import BASE, OWN

ORACLE, SCRIPTED_JUDGE, OTHER_SIMULATOR = "oracle", "scripted_judge", "other_simulator"
TESTED = "tested"  # the role of a model under test in calls.jsonl
# What a control tests, in a few words. `eval/benchmark/controls.py` plays them.
CONTROLS = {
    "wrong_persona": "the model reads another user's dialogue before the last message",
    "no_history": "the model reads the last message alone",
    OTHER_SIMULATOR: "the scripted user is the other simulator, with other words and another temper",
    "style_prompt": "a fixed instruction on style for all users",
    "self_reflection": "an instruction to reflect on the user first",
    ORACLE: "the scripted world's oracle in place of a model: the ceiling",
    "length_judge": "the model's replies, scored by their length alone",
    "no_context_judge": "the model's replies, scored without what came before the last message",
    SCRIPTED_JUDGE: "the model's replies, scored by the scripted judge: the truth for scripted personas",
}
PROMPTED = ("style_prompt", "self_reflection")  # of the start model by default, the others of the last model
RESCORED = ("length_judge", "no_context_judge", SCRIPTED_JUDGE)
DIALOGUES = ("wrong_persona", *RESCORED)  # need the model's own dialogues
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
_TASK = re.compile(r"\w[\w.,:+()-]*")  # also the name of a file


@dataclass(frozen=True)
class ModelUnderTest:
    """A model under test: one of the run, one at `source` (as `aloe import` takes it, or a training's folder), or the
    model `served` at the address `url`."""

    name: str
    source: str = ""
    url: str = ""
    served: str = ""


@dataclass(frozen=True)
class Entry:
    """A result: a model, by itself or under a control. The oracle has no model."""

    name: str
    model: ModelUnderTest | None
    control: str = ""

    @property
    def loaded(self) -> str:
        """The model that this machine loads to measure it by itself, as `find_model` takes it; empty for a control and
        for a model behind a server."""
        return "" if self.model is None or self.control or self.model.url else self.model.source or self.model.name


def parse_model(text: str) -> ModelUnderTest:
    """The model that an item of `config.benchmark.models` names: one of the run, `NAME=FOLDER`, `NAME=URL#MODEL`, or a
    folder's path, whose last part is the name. InputError for anything else."""
    if text in OWN:
        return ModelUnderTest(text)
    name, sign, source = text.partition("=")
    if not (sign and _NAME.fullmatch(name)):
        name, source = ("" if "://" in text else text.rstrip("/").rpartition("/")[2]), text
        if "/" not in text or not _NAME.fullmatch(name):
            raise InputError(
                f"models: '{text}' is unknown; choose from {', '.join(OWN)}, or give NAME=FOLDER, NAME=URL#MODEL or a "
                "folder's path"
            )
    if name in (*OWN, ORACLE):
        raise InputError(f"models: '{text}': the name '{name}' is taken; give another one, such as other={source}")
    if not source.startswith(("http://", "https://")):
        return ModelUnderTest(name, source=source)
    url, _, served = source.partition("#")
    if not served:
        raise InputError(f"models: '{name}': name the model on the server after a #, as in {name}=URL#MODEL")
    return ModelUnderTest(name, url=plain_address(url, "config.benchmark.api_key_env names"), served=served)


def parse_models(texts: Sequence[str]) -> list[ModelUnderTest]:
    """The models of `config.benchmark.models`. InputError as `parse_model` does, and for a name that comes twice."""
    found = [parse_model(text) for text in texts]
    names = [each.name for each in found]
    if double := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"models: two models are called '{double}'; name one of them otherwise with NAME=")
    return found


def parse_control(text: str, models: Sequence[ModelUnderTest]) -> Entry:
    """The result that an item of `config.benchmark.controls` asks for: `CONTROL`, of the last model (of `base` if the
    control is a prompt), or `MODEL+CONTROL`. InputError for an unknown control, or a model that is not measured."""
    named, sign, control = text.rpartition("+")
    if control not in CONTROLS or (sign and control == ORACLE):
        raise InputError(f"controls: '{text}' is unknown; choose from {', '.join(CONTROLS)}, or MODEL+CONTROL")
    if control == ORACLE:
        return Entry(ORACLE, None, ORACLE)
    by_name = {each.name: each for each in models}
    name = named or (BASE if control in PROMPTED else next(reversed(by_name), BASE))
    model = by_name.get(name) or (ModelUnderTest(BASE) if name == BASE and control not in DIALOGUES else None)
    if model is None:
        raise InputError(f"controls: '{text}': '{name}' is not among config.benchmark.models; add it there")
    return Entry(f"{name}+{control}", model, control)


def entries(models: Sequence[str], controls: Sequence[str], first: str = "") -> list[Entry]:
    """All results in the order in which they are made: the models, the one named `first` before the others, then the
    controls, which may need a model's dialogues. InputError for a name that cannot be read, or comes twice."""
    parsed = parse_models(models)
    made = [parse_control(text, parsed) for text in controls]
    names = [each.name for each in made]
    if double := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"controls: '{double}' comes twice; name it once")
    ordered = sorted(parsed, key=lambda model: model.name != first)
    return [*(Entry(model.name, model) for model in ordered), *made]


def task_names(items: Sequence[str]) -> dict[str, str]:
    """The items of `config.benchmark.tasks` by the name of the task: itself, or that of its YAML file without the
    ending. InputError for an item that is neither, and for a name that comes twice."""
    found: dict[str, str] = {}
    for item in items:
        is_file = item.endswith((".yaml", ".yml"))
        name = item.rpartition("/")[2].rpartition(".")[0] if is_file else item
        if not _TASK.fullmatch(name):
            raise InputError(
                f"tasks: '{item}' is neither the name of a task, as `lm-eval ls tasks` lists them, nor a .yaml file"
            )
        if name in found:
            raise InputError(f"tasks: two tasks are called '{name}'; name each once, or rename one of the files")
        found[name] = item
    return found
