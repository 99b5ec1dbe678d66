"""Float32 means float32: the precision of every matrix product in the programs of training, scoring and decoding.

On TPUs a product of f32 arrays is computed in bf16 unless its precision says otherwise; a CPU hides that, so the
programs' jaxprs are read, those of Pallas kernels inside them too.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr

from aloe_jax.decode.cache import empty_pages
from aloe_jax.decode.executor import words_of
from aloe_jax.decode.plans import idle_rows, make_shape, no_chunks
from aloe_jax.decode.programs import Chunks, Rows, Setup, programs
from aloe_jax.models import decoder
from aloe_jax.models.apart import apart
from aloe_jax.models.lora import LoraSettings
from aloe_jax.ops.precision import in_precision_of
from aloe_jax.train.adapters import with_adapters
from aloe_jax.train.forward import DTYPES, Compute, make_score
from aloe_jax.train.objectives.settings import ObjectiveSettings
from aloe_jax.train.optimizer import OptimizerSettings, make_optimizer
from aloe_jax.train.state import TrainState, split_params
from aloe_jax.train.step import make_evaluation, make_step
from aloe_jax.tree.pack import empty_row, stack
from aloe_jax.tree.row import Capacity
from helpers.tiny import MODEL

ROWS = stack([stack([empty_row(Capacity(tokens=256, targets=64, replies=4, pairs=4))])] * 2)
UNTIED = dataclasses.replace(MODEL, tied=False)
ADAPTED = with_adapters(UNTIED, LoraSettings(maps=".*", rank=2))
HIGHEST = (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)
# A program by name -> the number of its products at least: 7 maps and 2 of attention in a scanned layer, and the head;
# decoding does not scan over its two layers.
PROGRAMS = {"score": 10, "step": 30, "adapters": 30, "evaluation": 10, "prefill": 18, "prompt scores": 19, "burst": 19}
DECODING = ("prefill", "prompt scores", "burst")


def products(jaxpr):
    """The precision and the types of every matrix product, inside loops, calls and kernels too."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation.params["precision"], [var.aval.dtype for var in equation.invars]
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda leaf: isinstance(leaf, (Jaxpr, ClosedJaxpr))):
            if isinstance(inner, (Jaxpr, ClosedJaxpr)):
                yield from products(inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner)


def traced(name, dtype, attention):
    model = ADAPTED if name == "adapters" else UNTIED
    compute, settings = Compute(dtype=dtype, chunk=32, attention=attention, remat="none"), ObjectiveSettings()
    abstract, used = decoder.abstract_params(model), np.int32(2)
    params, frozen = split_params(abstract, model)
    row = jax.tree.map(lambda leaf: leaf[0], ROWS)
    if name == "score":
        return jax.make_jaxpr(make_score(model, compute))(abstract, row)
    if name == "evaluation":
        return jax.make_jaxpr(make_evaluation(model, settings, compute))(params, frozen, ROWS, used)
    if name in ("step", "adapters"):
        optimizer = make_optimizer(OptimizerSettings(), 3)
        number = jax.ShapeDtypeStruct((), jnp.int32)
        state = TrainState(number, params, jax.eval_shape(optimizer.init, params), frozen)
        return jax.make_jaxpr(make_step(model, settings, compute, optimizer))(state, ROWS, used)
    shape = make_shape(slots=2, context=64, page=64, chunk=16, shares=1)
    made = programs(Setup(model, dtype, ends=(0,)), whole=True)
    cache = jax.eval_shape(lambda: empty_pages(model, shape.pages, shape.page, DTYPES[dtype]))
    held = jax.eval_shape(functools.partial(apart, config=model, dtype=dtype), abstract)
    prompts = no_chunks(2, shape)
    chunks = Chunks(*(getattr(prompts, field) for field in Chunks._fields))
    if name == "prefill":
        return jax.make_jaxpr(made.prefill)(held, cache, chunks)
    if name == "prompt scores":
        return jax.make_jaxpr(made.score)(held, cache, chunks, prompts.tokens, False)
    plan = idle_rows(2, shape.width)
    rows = Rows(*(getattr(plan, field) for field in Rows._fields))
    return jax.make_jaxpr(made.burst)(held, cache, rows, np.zeros((2, words_of(model)), np.uint32), False, 8)


CASES = [
    (name, attention)
    for name in PROGRAMS
    for attention in (("dense", "blocked", "pallas") if name not in DECODING else ("dense",))
]


@pytest.mark.parametrize(("name", "attention"), CASES)
def test_every_product_of_a_float32_program_has_the_highest_precision(name, attention):
    found = list(products(traced(name, "float32", attention).jaxpr))
    assert len(found) >= PROGRAMS[name]
    assert {precision for precision, _ in found} == {HIGHEST}


@pytest.mark.parametrize(("name", "attention"), CASES)
def test_bfloat16_programs_stay_as_they_are(name, attention):
    found = list(products(traced(name, "bfloat16", attention).jaxpr))
    assert len(found) >= PROGRAMS[name]
    assert {precision for precision, _ in found} == {None}
    assert any(jnp.bfloat16 in types for _, types in found)


def test_what_a_type_asks_for():
    left = jnp.ones((2, 2))
    for dtype, wanted in ((jnp.float32, HIGHEST), (jnp.bfloat16, None)):
        ((precision, _),) = products(jax.make_jaxpr(in_precision_of(dtype)(jnp.dot))(left, left).jaxpr)
        assert precision == wanted
