"""The stages `dataset`, `sft` and `preference`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from etils import epath

from aloe_jax import files
from aloe_jax.data.builder import FragmentSource
from aloe_jax.data.dataset_writer import DatasetWriter
from aloe_jax.data.mixture import sources_of
from aloe_jax.data.pipeline import Batches, Reference, rows_a_micro_batch
from aloe_jax.data.plan import PAIRS, PackPlan, pack_plan
from aloe_jax.errors import InputError
from aloe_jax.hub.chat_model import read_chat_model
from aloe_jax.hub.config_file import read_config
from aloe_jax.hub.identity import model_hash
from aloe_jax.hub.load import load_params
from aloe_jax.hub.source import resolve_model
from aloe_jax.models import decoder
from aloe_jax.models.config import ModelConfig
from aloe_jax.ops.attention import chosen
from aloe_jax.parallel import hosts
from aloe_jax.parallel.mesh import make_mesh, shape_in_words
from aloe_jax.parallel.sharding import bytes_per_chip, table
from aloe_jax.run.stage import Run, Stage
from aloe_jax.train.adapters import merged_params, with_adapters
from aloe_jax.train.clock import Clock
from aloe_jax.train.forward import Compute, check_attention, make_score
from aloe_jax.train.held_out import held_out
from aloe_jax.train.loop import Training, train
from aloe_jax.train.metrics_log import in_words, read_metrics, time_split
from aloe_jax.train.objectives import OBJECTIVES, check_settings
from aloe_jax.train.reference import Tolerance, reference_log_probs
from aloe_jax.train.rounding import reply_tolerance
from aloe_jax.train.state import TrainState, abstract_state, check_optimizer, make_optimizer
from aloe_jax.train.stop import StopRequest
from aloe_jax.tree.row import Capacity
from aloe_jax.tree.template import ChatFormat


def model_folder(run: Run) -> epath.Path:
    """The Hugging Face folder of the start model."""
    return resolve_model(run.section("model")["source"])


def model_config(run: Run) -> ModelConfig:
    """The config of the start model."""
    return read_config(model_folder(run))[0]


def chat_format(run: Run) -> ChatFormat:
    """Tokenizer and chat template of the start model, with the config's date and system handling. InputError if the
    tokenizer does not belong to the model."""
    section = run.section("template")
    return read_chat_model(model_folder(run), date=section["date"], system=section["system"])[1]


def mesh_of(run: Run) -> jax.sharding.Mesh:
    """The mesh that the config asks for, over all devices of all processes: that of trainings."""
    return make_mesh(**run.section("mesh"))


def own_mesh(run: Run) -> jax.sharding.Mesh:
    """The mesh of a stage that one process works on: of several, over its own devices alone."""
    return make_mesh(devices=jax.local_devices()) if hosts.is_multiprocess() else mesh_of(run)


def trained_config(run: Run) -> ModelConfig:
    """The config of the start model with the adapters that `config.lora` asks for."""
    return with_adapters(model_config(run), run.section("lora"))


def load_stage_params(run: Run, name: str, mesh: jax.sharding.Mesh) -> decoder.Params:
    """Parameters (f32, sharded) of `base`, or those that the stage `sft` or `preference` ended with, its adapters
    merged."""
    model = model_config(run)
    base = partial(load_params, model_folder(run), model)
    if name == "base":
        return base(decoder.shardings(model, mesh))
    return merged_params(model, run.directory(name), base, mesh)


def _check_dataset(run: Run) -> None:
    section = run.section("dataset")
    longest, context = section["max_path"], model_config(run).context
    run.at_least("dataset", max_path=1)
    if longest > context:
        raise InputError(f"config.dataset.max_path: {longest} is beyond the model's context, {context} tokens")
    Capacity(**section["row"])
    sources_of(section)


def _dataset(run: Run) -> dict[str, Any]:
    section = run.section("dataset")
    making = DatasetWriter(
        sources_of(section),
        run.directory("conversations") / "trees.jsonl",
        chat_format(run),
        Capacity(**section["row"]),
        section["max_path"],
        model_config(run).vocab,
        lambda done, total: run.progress.update(done, total, "conversations"),
    )
    counts = making.write(run.directory("dataset"))
    for name, found in making.counts.items():
        run.progress.line(f"dataset: {found.line(name)}")
    return counts


def _dataset_inputs(run: Run) -> dict[str, str]:
    """The model, whose tokenizer and template are used, and the files of other sources."""
    sources = sources_of(run.section("dataset"))
    return model_inputs(run) | {f"source {source.name}": source.hash() for source in sources if source.paths}


def _check_training(run: Run, name: str) -> None:
    run.one_of(name, "objective", OBJECTIVES)
    check_settings(OBJECTIVES[run.section(name)["objective"]], run.section(name), name)
    check_optimizer(run.section(name), name)
    run.at_least(name, epochs=1, batch=1, rows=1, held_out=0)
    run.at_least(name, checkpoint_every=1, keep=1, keep_every=0, measure_every=1)
    run.at_least("logging", trace_from=0, trace_steps=1)
    if run.section(name)["held_out"] >= 1:
        raise InputError(f"config.{name}.held_out: {run.section(name)['held_out']} must be below 1, to leave something")
    compute = Compute(**run.section("compute"))
    check_attention(run.section("dataset")["row"]["tokens"], compute.attention, mesh_of(run))
    trained_config(run)


def _train(run: Run, name: str, start: str) -> dict[str, Any]:
    """SFT or preference training: from the parameters of `start`, in `DIR/name`."""
    mesh = mesh_of(run)
    # Before the first step one process may end at a signal at once, nothing is lost; of several, the others would wait.
    if not hosts.is_multiprocess():
        return _training(run, name, start, mesh, None)
    with StopRequest(mesh) as stop:
        return _training(run, name, start, mesh, stop)


def _training(run: Run, name: str, start: str, mesh: jax.sharding.Mesh, stop: StopRequest | None) -> dict[str, Any]:
    section, directory, clock = run.section(name), run.directory(name), Clock()
    objective = OBJECTIVES[section["objective"]]
    compute, model = Compute(**run.section("compute")), trained_config(run)
    capacity = Capacity(**run.section("dataset")["row"])
    rows = rows_a_micro_batch(section["rows"], mesh)
    reference: Reference | None = None
    loaded: list[decoder.Params] = []

    def initial() -> decoder.Params:
        return loaded.pop() if loaded else load_stage_params(run, start, mesh)

    with clock.part("start"):
        source = FragmentSource(run.directory("dataset"))
        trained_on, measured = training_plans(run, name, source)
        hosts.check_same([repr((trained_on, measured)), source.sizes.tobytes()], "the dataset")
        if objective.needs_reference:
            loaded.append(load_stage_params(run, start, mesh))
            both = Batches(source, PackPlan(trained_on.steps + measured.steps), capacity, rows)
            reference = _reference(run, directory, start, loaded[0], both, compute, mesh, stop)
    if hosts.broadcast_from_primary((directory / "checkpoints").exists()) and not model.lora:
        loaded.clear()
    training = Training(
        model,
        section,
        compute,
        Batches(source, trained_on, capacity, rows, reference),
        mesh,
        directory,
        objective.first_loss(section),
        run.config["seed"],
        Batches(source, measured, capacity, rows, reference) if measured.steps else None,
        run.section("logging"),
    )

    def report(done: int, total: int, record: Mapping[str, Any]) -> None:
        accuracy = record.get("held_out_accuracy", record.get("accuracy"))
        kind = "held-out accuracy" if "held_out_accuracy" in record else "accuracy"
        extra = "" if accuracy is None else f", {kind} {accuracy:.2f}"
        speed = f", {record['tokens_per_second']:,.0f} tokens a second"
        run.progress.update(done, total, f"steps, loss {record['loss']:.4f}{extra}{speed}")

    _tell_sharding(run, name, abstract_state(model, make_optimizer(section, 1), mesh))
    state = train(training, initial, report, clock, stop)
    spent = in_words(time_split(read_metrics(directory / "metrics.jsonl"), clock.read()))
    run.progress.line(f"{name}: time: {spent}")
    return {
        "steps": int(state.step),
        "fragments": len(source),
        "held_out_conversations": len(np.unique(source.conversation[measured.fragments])),
        "parameters": decoder.parameter_count(model),
        "row_fill": round(trained_on.fill(source.sizes, capacity), 3),
        "mesh": shape_in_words(mesh.shape),
        "time": spent,
    }


def training_plans(run: Run, name: str, source: FragmentSource) -> tuple[PackPlan, PackPlan]:
    """The pack plans of a training and of what is held out from it, over what the objective can train on, with a line
    about what it cannot. The second has no steps where nothing is held out."""
    section, given = run.section(name), run.section("dataset")["sources"]
    objective = OBJECTIVES[section["objective"]]
    if objective.unit == "pairs":
        trained = source.sizes[:, PAIRS]
    else:
        trained = source.rivals if objective.needs_reference else source.trained  # a list-wise one compares siblings
    weights = np.array([given[key]["weight"] for key in source.sources])
    trained = np.where(weights[source.origin] > 0, trained, 0)
    useless = len(np.unique(source.conversation)) - len(np.unique(source.conversation[trained > 0]))
    if useless:
        run.progress.line(f"{name}: {useless:,} conversations with nothing to train on are left out")
    aside = held_out(source.conversation, section["held_out"], run.config["seed"])
    if trained.any() and not trained[~aside].any():
        raise InputError(
            f"config.{name}.held_out: {section['held_out']} leaves nothing of so few conversations to train on"
        )

    def plan(chosen: np.ndarray, epochs: int) -> PackPlan:
        return pack_plan(
            source.sizes,
            source.conversation,
            Capacity(**run.section("dataset")["row"]),
            batch=section["batch"],
            unit=objective.unit,
            seed=run.config["seed"],
            epochs=epochs,
            origin=source.origin,
            weights=weights.tolist(),
            trained=np.where(chosen, trained, 0),
        )

    return plan(~aside, section["epochs"]), plan(aside, 1) if trained[aside].any() else PackPlan(())


def _tell_sharding(run: Run, name: str, state: TrainState) -> None:
    """Where everything of the training lies: on the display, one line for one device, and in `sharding.txt`."""
    parts = {"parameters": state.params, "frozen": state.frozen, "optimiser": state.opt_state}
    text = table(parts, ["parameters", "frozen"])
    if hosts.is_primary():
        files.write_text(run.directory(name) / "sharding.txt", text + "\n")
    mesh, size = state.step.sharding.mesh, bytes_per_chip(parts) / 2**30
    run.progress.line(f"{name}: mesh {shape_in_words(mesh.shape)}, {size:.2f} GiB a chip for parameters and optimiser")
    if mesh.size > 1:
        run.progress.line(text)


def _reference(
    run: Run,
    directory: epath.Path,
    start: str,
    params: decoder.Params,
    batches: Batches,
    compute: Compute,
    mesh: jax.sharding.Mesh,
    stop: StopRequest | None,
) -> Reference:
    chat, manifest = chat_format(run), run.manifest(directory.name)
    key = {
        "model": start,
        "inputs": manifest["inputs"],
        "row": run.section("dataset"),
        "tokenizer": chat.tokenizer.hash,
        "template": chat.template.hash,
        "dtype": compute.dtype,
        "attention": chosen(compute.attention, mesh),
    }
    model = model_config(run)
    score = make_score(model, compute, mesh)
    tolerance: Tolerance = lambda tokens: float(reply_tolerance(compute.dtype, model.layers, tokens))  # noqa: E731
    report: Callable[[int, int], None] = lambda done, total: run.progress.update(  # noqa: E731
        done, total, "batches scored by the reference model"
    )
    return reference_log_probs(params, score, batches, mesh, directory, key, report, tolerance, stop)


def model_inputs(run: Run) -> dict[str, str]:
    """Identity of the start model, as an input of stages that read it."""
    return {"model": model_hash(model_folder(run))}


# The mesh is none of them: a run may go on with other devices, its batches are the same.
COMMON = ("model", "template", "compute", "lora")
# How the same sums are cut and ordered, and how often something is saved or measured: a run may go on with less memory
# or on a fuller disk.
FREE_COMPUTE = ("attention", "remat", "chunk")
FREE_TRAINING = ("rows", "checkpoint_every", "keep", "keep_every", "async_checkpoint", "measure_every")


def _free(name: str) -> frozenset[str]:
    return frozenset(f"compute.{key}" for key in FREE_COMPUTE) | {f"{name}.{key}" for key in FREE_TRAINING}


DATASET = Stage(
    "dataset",
    ("conversations",),
    ("model", "template", "dataset"),
    _dataset,
    _dataset_inputs,
    check=_check_dataset,
)
SFT = Stage(
    "sft",
    ("dataset",),
    (*COMMON, "dataset", "sft", "seed"),
    lambda run: _train(run, "sft", "base"),
    model_inputs,
    ("metrics.jsonl",),
    everywhere=True,
    check=lambda run: _check_training(run, "sft"),
    free=_free("sft"),
)
PREFERENCE = Stage(
    "preference",
    ("dataset", "sft"),
    (*COMMON, "dataset", "preference", "seed"),
    lambda run: _train(run, "preference", "sft"),
    model_inputs,
    ("metrics.jsonl",),
    everywhere=True,
    check=lambda run: _check_training(run, "preference"),
    free=_free("preference"),
)
