"""The settings of an experiment, put together from all parts of the code. Config files start from `experiment()`.

    from aloe_jax.cli.experiment import experiment

    def get_config(arg=""):
        config = experiment()
        config.model.source = "meta-llama/Meta-Llama-3-8B-Instruct"
        return config.lock()

`aloe config --config=FILE.py[:ARG]` prints every setting with its value, origin and meaning.
"""

from __future__ import annotations

import dataclasses
import functools
import runpy
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from etils import epath
from ml_collections import ConfigDict

from aloe_jax import settings
from aloe_jax.bucket.places import in_bucket
from aloe_jax.bucket.reading import readable
from aloe_jax.bucket.settings import BucketSettings
from aloe_jax.cli.arguments import DEBUG, STAGES, parse_argument
from aloe_jax.data.settings import DatasetSettings
from aloe_jax.decode.settings import DecodeSettings
from aloe_jax.errors import InputError
from aloe_jax.hub.families import model_config
from aloe_jax.launch.settings import LaunchSettings
from aloe_jax.models.lora import LoraSettings
from aloe_jax.parallel.meeting import HostSettings
from aloe_jax.parallel.mesh import MeshSettings
from aloe_jax.plan.flags import DEFAULT as TUNING
from aloe_jax.plan.settings import BenchmarkDialogues, GrownConversations, PlannedSettings, Rounds
from aloe_jax.plan.tuning import AUTO, GROUPS
from aloe_jax.run.config import changed_config, load_config, names_file, overridden, shipped_file
from aloe_jax.run.settings import ModelSettings, TemplateSettings
from aloe_jax.run.stage import CONFIG, run_config
from aloe_jax.serve.settings import ServeSettings
from aloe_jax.settings import section, setting
from aloe_jax.train.export import ExportSettings
from aloe_jax.train.forward import Compute
from aloe_jax.train.names import BASE, SFT
from aloe_jax.train.settings import LoggingSettings, PreferenceSettings, SftSettings
from data_gen.game.settings import ConversationSettings, TreeSettings
from data_gen.online.outline import outlines
from data_gen.online.round_settings import OnlineSettings
from data_gen.personas.settings import PersonaSettings
from data_gen.players.table import RolesSettings
from eval.benchmark.settings import BenchmarkSettings


@dataclass(frozen=True)
class Experiment:
    """Every setting, with the paper's values (arXiv 2410.03642)."""

    seed: int = setting(0, "seed of everything random: personas, replies, batches, adapters")
    stages: tuple[str, ...] = setting(
        (), "stages to run; empty: all but online; --stages takes precedence", choices=STAGES
    )
    model: ModelSettings = section(ModelSettings)
    template: TemplateSettings = section(TemplateSettings)
    mesh: MeshSettings = section(MeshSettings)
    hosts: HostSettings = section(HostSettings, decides=False)
    bucket: BucketSettings = section(BucketSettings, decides=False)
    tuning: tuple[str, ...] = setting(
        TUNING,
        "groups of compiler flags on TPUs (docs/tuning.md); auto: those that fit the chip and the experiment, and what "
        "config.compute.remat=auto keeps; empty: none",
        choices=(AUTO, *GROUPS),
        decides=False,
    )
    compute: Compute = section(Compute, dtype="bfloat16", remat=AUTO)
    lora: LoraSettings = section(LoraSettings)
    serve: ServeSettings = section(ServeSettings)
    decode: DecodeSettings = section(DecodeSettings)
    roles: RolesSettings = section(RolesSettings)
    personas: PersonaSettings = section(PersonaSettings)
    tree: TreeSettings = section(TreeSettings)
    conversations: ConversationSettings = section(ConversationSettings)
    dataset: DatasetSettings = section(DatasetSettings)
    logging: LoggingSettings = section(LoggingSettings)
    sft: SftSettings = section(SftSettings)
    preference: PreferenceSettings = section(PreferenceSettings)
    online: OnlineSettings = section(OnlineSettings)
    benchmark: BenchmarkSettings = section(BenchmarkSettings)
    export: ExportSettings = section(ExportSettings)
    launch: LaunchSettings = section(LaunchSettings, decides=False)


PAPER_SEQUENCES = 128  # that decode together with the shipped configs of 7B and 8B models


def experiment() -> ConfigDict:
    """A config with every key at its default, not locked. `model.source` has to be set."""
    return _config_dict(Experiment())


def _config_dict(value: object) -> ConfigDict:
    """A settings object as a ConfigDict; tuples stay tuples, so that flags on the command line get their type."""
    config = ConfigDict()
    for field in dataclasses.fields(value):  # type: ignore[arg-type]
        config[field.name] = _config_value(getattr(value, field.name))
    return config


def _config_value(value: object) -> object:
    if dataclasses.is_dataclass(value):
        return _config_dict(value)
    if isinstance(value, Mapping):
        return ConfigDict({key: _config_value(one) for key, one in value.items()})
    return value


def model_experiment(arg: str, source: str, sizes: Mapping[str, object], system: str = "keep") -> ConfigDict:
    """The paper's experiment with the model `source`, changed by a config file's argument, locked.

    `sizes` are those of the source's config.json; `:debug` uses a tiny random model of its family. `system` is the
    handling of system messages: Mistral's template writes them into the last user message, which changes as the
    dialogue continues, so there they are folded into the first. ValueError for an unknown argument
    (`arguments.ARGUMENTS`).
    """
    argument, config = parse_argument(arg), experiment()
    config.model.source, config.model.sizes = source, ConfigDict(sizes)
    context = sizes["max_position_embeddings"]
    assert isinstance(context, int)
    config.dataset.max_path = min(config.dataset.max_path, context)  # rows of several conversations may be longer
    config.template.system = system
    config.stages = argument.stages
    # As many sequences as fill a slice of 16 chips (docs/plan.md); conversations and dialogues keep them busy.
    config.serve.slots = config.conversations.concurrency = config.benchmark.concurrency = PAPER_SEQUENCES
    argument.change(config)
    if arg == DEBUG:
        family = model_config(dict(sizes), "sizes").family
        config.model.source, config.model.sizes = f"random:{family}", ConfigDict()
    return config.lock()


def shipped_config(name: str, arg: str = "") -> ConfigDict:
    """The config of a shipped file, not locked, for a config file that starts from it. InputError if there is none."""
    namespace = runpy.run_path(str(shipped_file(name)))
    config: ConfigDict = namespace["get_config"](arg)
    return config.unlock()


def load_experiment(arguments: Sequence[str], workdir: str = "") -> dict[str, object]:
    """The settings given by `arguments` (everything that starts with --config), by section. A section that the config
    file lacks is missing here too, and is refused when a stage reads it. Without --config, those of the run in
    `workdir`, with the changes in `arguments`.

    Raises InputError as `load_config` and `settings.read` do.
    """
    renamed = settings.renamed(Experiment)
    if not workdir or names_file(arguments):
        return read_experiment(load_config(arguments, renamed))
    stored = epath.Path(readable(workdir, CONFIG.__eq__) if in_bucket(workdir) else workdir) / CONFIG
    if not stored.exists():
        raise InputError(
            f"--config is missing, and there is no run in '{workdir}' to go on with; give an experiment file, for "
            "example --config=configs/demo.py"
        )
    found = run_config(stored)
    if found is None:
        raise InputError(f"--workdir: '{stored}' is no config of a run; give --config=FILE and another folder")
    known = read_experiment(settings.completed(Experiment(), found))
    config = ConfigDict({name: _config_value(value) for name, value in known.items()})
    return read_experiment(changed_config(config, arguments, str(stored), renamed))


def read_experiment(values: Mapping[str, object]) -> dict[str, object]:
    """Plain values as settings objects, by section; without epochs of SFT, what would start from it or measure it does
    without. InputError as `settings.read`."""
    kinds = typing.get_type_hints(Experiment)
    for name in values:
        if name not in kinds:
            raise InputError(settings.unknown_key(f"config.{name}", name, kinds, "config"))
    fields = [field for field in dataclasses.fields(Experiment) if field.name in values]
    rules = [(one.name, kinds[one.name], dataclasses.field(metadata=one.metadata)) for one in fields]
    read: object = settings.read(dataclasses.make_dataclass("Given", rules), values, "config")
    return _without_sft({field.name: getattr(read, field.name) for field in fields})


def _without_sft(sections: dict[str, object]) -> dict[str, object]:
    """If there is no SFT (`config.sft.epochs=0`), other trainings from the start model in place of its result, and the
    benchmark without it."""
    sft, preference, online, benchmark = (sections.get(name) for name in ("sft", "preference", "online", "benchmark"))
    if not isinstance(sft, SftSettings) or sft.epochs:
        return sections
    found = dict(sections)
    if isinstance(preference, PreferenceSettings) and preference.start == SFT:
        found["preference"] = dataclasses.replace(preference, start=BASE)
    if isinstance(online, OnlineSettings):
        start, reference = (BASE if name == SFT else name for name in (online.start, online.reference))
        found["online"] = dataclasses.replace(online, start=start, reference=reference)
    if isinstance(benchmark, BenchmarkSettings) and SFT in benchmark.models:
        models = tuple(name for name in benchmark.models if name != SFT)
        found["benchmark"] = dataclasses.replace(benchmark, models=models)
    return found


def planned_settings(sections: Mapping[str, object]) -> PlannedSettings:
    """What `aloe plan` reads of an experiment's settings, with plain figures of the rooms that it does not import."""
    grown, benchmark, online = (sections.get(name) for name in ("conversations", "benchmark", "online"))
    return PlannedSettings(
        sections,
        GrownConversations(grown.trees, grown.turns, grown.mix.total())
        if isinstance(grown, ConversationSettings)
        else None,
        BenchmarkDialogues(benchmark.turns, benchmark.max_tokens) if isinstance(benchmark, BenchmarkSettings) else None,
        Rounds(online.rounds, online.rollout.batch, online.max_tokens, functools.partial(outlines, online))
        if isinstance(online, OnlineSettings)
        else None,
    )


@dataclass(frozen=True)
class Origin:
    """A setting with its plain value, its meaning, and the origin of the value: default, file or command line."""

    name: str
    value: object
    help: str
    origin: str


def origins(arguments: Sequence[str]) -> Iterator[Origin]:
    """Every setting of the experiment given by `arguments`, in the order of the settings classes."""
    given, changed = load_experiment(arguments), overridden(arguments)
    defaults = {name: value for name, value, _ in settings.leaves(Experiment())}
    whole = dataclasses.replace(Experiment(), **given)  # type: ignore[arg-type]
    for name, value, help in settings.leaves(whole):
        origin = "default" if defaults.get(name) == value else "file"
        if any(f"{key}.".startswith(f"{name}.") for key in changed):  # a key, or one inside a setting with keys
            origin = "command line"
        yield Origin(name, value, help, origin)
