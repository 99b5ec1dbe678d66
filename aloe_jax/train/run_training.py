"""A training of a run: from dataset and start model through the reference pass to the loop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
from etils import epath
from jax.sharding import Mesh

from aloe_jax import files
from aloe_jax.bucket.places import stored_at
from aloe_jax.data.builder import FragmentSource
from aloe_jax.data.pipeline import Batches, Reference, micro_batch_rows
from aloe_jax.data.plan import PackPlan
from aloe_jax.data.settings import DatasetSettings
from aloe_jax.models import decoder
from aloe_jax.ops.attention import chosen
from aloe_jax.parallel import hosts
from aloe_jax.parallel.mesh import shape_in_words
from aloe_jax.parallel.sharding import bytes_per_chip, table
from aloe_jax.run.manifest import Values
from aloe_jax.run.model import chat_format, mesh_of, model_config
from aloe_jax.run.progress import FIRST_COMPILE
from aloe_jax.run.stage import Run
from aloe_jax.settings import plain
from aloe_jax.train.adapters import trained_config
from aloe_jax.train.clock import Clock
from aloe_jax.train.feed import DatasetFeed
from aloe_jax.train.forward import Compute, make_score
from aloe_jax.train.goodput import goodput
from aloe_jax.train.held_out import HeldOut
from aloe_jax.train.loop import Training, train
from aloe_jax.train.metrics_log import Record, read_metrics, time_shares, time_split
from aloe_jax.train.objectives import objective_of
from aloe_jax.train.optimizer import make_optimizer
from aloe_jax.train.plans import training_plans
from aloe_jax.train.records import Report
from aloe_jax.train.reference import reference_log_probs
from aloe_jax.train.rounding import expected_first_loss, reply_tolerance
from aloe_jax.train.settings import LoggingSettings, TrainingSettings
from aloe_jax.train.sources import load_model
from aloe_jax.train.state import TrainState, abstract_state
from aloe_jax.train.stop import StopRequest

# What the display says during a part of the clock, and a hint.
PARTS_IN_WORDS = {
    "start": ("loading", ""),
    "compile": ("compiling step", FIRST_COMPILE),
    "checkpoint": ("saving a checkpoint", ""),
    "held_out": ("measuring held-out conversations", ""),
}


def run_training(run: Run, name: str, start: str) -> Values:
    """Train the stage `name` from the parameters of `start`, in `DIR/name`; returns the counts for the manifest."""
    mesh = mesh_of(run)
    # Before the first step a signal may end a single process at once, since nothing is lost; with several processes,
    # the others would wait for it forever.
    if not hosts.is_multiprocess():
        return _run(run, name, start, mesh, None)
    with StopRequest(mesh) as stop:
        return _run(run, name, start, mesh, stop)


def _run(run: Run, name: str, start: str, mesh: Mesh, stop: StopRequest | None) -> Values:
    settings, directory = run.section(name, TrainingSettings), run.directory(name)
    clock = Clock(lambda part: shown(run, part))
    objective, model, compute = objective_of(settings), trained_config(run), run.section("compute", Compute)
    capacity = run.section("dataset", DatasetSettings).row
    rows = micro_batch_rows(settings.rows, mesh)
    reference: Reference | None = None
    loaded: list[decoder.Params] = []

    def initial() -> decoder.Params:
        return loaded.pop() if loaded else load_model(run, start, mesh)

    with clock.part("start"):
        source = FragmentSource(run.directory("dataset"), objective.chooses)
        trained_on, measured = training_plans(run, name, source)
        hosts.check_same([repr((trained_on, measured)), source.sizes.tobytes()], "the dataset")
        if objective.needs_reference:
            loaded.append(load_model(run, start, mesh))
            both = Batches(source, PackPlan(trained_on.steps + measured.steps), capacity, rows)
            with run.progress.doing("compiling reference pass", FIRST_COMPILE):
                reference = _reference(run, directory, start, loaded[0], both, mesh, stop, objective.by_token)
    if hosts.broadcast_from_primary(stored_at(directory / "checkpoints").exists()) and not model.lora:
        loaded.clear()  # a checkpoint replaces it
    batches = Batches(source, trained_on, capacity, rows, reference)
    held_out = Batches(source, measured, capacity, rows, reference)
    training = Training(
        model,
        settings,
        compute,
        DatasetFeed(batches, expected_first_loss(settings, batches)),
        mesh,
        directory,
        run.seed,
        HeldOut(held_out, settings.measure_every) if measured.steps else None,
        run.section("logging", LoggingSettings),
        run.commit,
    )

    def report(done: int, total: int, record: Record) -> None:
        accuracy = record.get("held_out_accuracy", record.get("accuracy"))
        kind = "held-out accuracy" if "held_out_accuracy" in record else "accuracy"
        extra = "" if accuracy is None else f", {kind} {accuracy:.2f}"
        speed = f"{record['tokens_per_second']:,.0f} tokens per second"
        loss = f"loss {record['loss']:.4f}" if record["weight"] else "nothing to train on"
        run.progress.update(done, total, f"steps, {loss}{extra}", speed)

    steps, counts = run_loop(run, training, initial, report, clock, stop)
    return {
        "steps": steps,
        "fragments": len(source),
        "held_out_conversations": len(np.unique(source.conversation[measured.fragments])),
        "row_fill": round(trained_on.fill(source.sizes, capacity), 3),
        **counts,
    }


def run_loop(
    run: Run,
    training: Training,
    initial: Callable[[], decoder.Params],
    report: Report,
    clock: Clock,
    stop: StopRequest | None,
) -> tuple[int, Values]:
    """Train to the end, and say how the state was sharded and where the time went; the steps done, and what the
    manifest of any training says. Arguments as of `train`."""
    directory, mesh, name = training.directory, training.mesh, training.directory.name
    _report_sharding(run, name, abstract_state(training.model, make_optimizer(training.settings, 1), mesh))
    state = train(training, initial, report, clock, stop, run.progress.line)
    spent = time_shares(time_split(read_metrics(directory / "metrics.jsonl"), clock.read()))
    run.progress.line(f"{name}: time: {spent}")
    reached = goodput(directory) if hosts.is_primary() else None
    if reached:
        run.progress.line(f"{name}: goodput {reached.text()}")
    return int(state.step), {
        "parameters": decoder.parameter_count(training.model),
        "mesh": shape_in_words(mesh.shape),
        "time": spent,
        **({"goodput": reached.text()} if reached else {}),
    }


def shown(run: Run, part: str) -> AbstractContextManager[None]:
    """The display of a part of the clock."""
    return run.progress.doing(*PARTS_IN_WORDS[part]) if part in PARTS_IN_WORDS else nullcontext()


def _report_sharding(run: Run, name: str, state: TrainState) -> None:
    """Write the sharding of every tensor of the training to `sharding.txt` and, on more than one device, to the
    display."""
    parts = {"parameters": state.params, "frozen": state.frozen, "optimiser": state.opt_state}
    text = table(parts, ["parameters", "frozen"])
    if hosts.is_primary():
        files.write_text(run.directory(name) / "sharding.txt", text + "\n")
    mesh, size = state.step.sharding.mesh, bytes_per_chip(parts) / 2**30
    run.progress.line(
        f"{name}: mesh {shape_in_words(mesh.shape)}, {size:.2f} GiB per chip for parameters and optimiser"
    )
    if mesh.size > 1:
        run.progress.line(text)


def _reference(
    run: Run,
    directory: epath.Path,
    start: str,
    params: decoder.Params,
    batches: Batches,
    mesh: Mesh,
    stop: StopRequest | None,
    by_token: bool,
) -> Reference:
    """Log-probability of every reply, `by_token` of each of its tokens, under the reference model, which is the model
    that the training starts from."""
    chat, model, compute = chat_format(run), model_config(run), run.section("compute", Compute)
    key = {
        "model": start,
        "inputs": run.manifest(directory.name).inputs,
        "row": plain(run.section("dataset", DatasetSettings)),
        "tokenizer": chat.tokenizer.hash,
        "template": chat.template.hash,
        "dtype": compute.dtype,
        "attention": chosen(compute.attention, mesh),
        **({"by": "token"} if by_token else {}),
    }

    def tolerance(tokens: int) -> float:
        return float(reply_tolerance(compute.dtype, model.layers, tokens))

    def report(done: int, total: int) -> None:
        run.progress.update(done, total, "reference batches")

    score = make_score(model, compute, mesh, by_token)
    return reference_log_probs(params, score, batches, mesh, directory, key, report, tolerance, stop, by_token)
