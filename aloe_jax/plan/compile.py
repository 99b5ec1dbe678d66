"""Compiling a stage's program for a slice that is not there, and what the compiler says of it.

libtpu compiles ahead of time on any Linux machine; it runs nothing here. What a compilation said is kept in the cache
folder under a hash of all that decides it.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import aloe_jax
from aloe_jax import files
from aloe_jax.decode import engine
from aloe_jax.decode.cache import empty_cache
from aloe_jax.errors import InputError
from aloe_jax.hub.config_file import read_config
from aloe_jax.hub.families import model_config
from aloe_jax.hub.folders import cache_root
from aloe_jax.hub.source import resolve_model
from aloe_jax.models import decoder
from aloe_jax.models.config import ModelConfig
from aloe_jax.parallel.mesh import make_mesh
from aloe_jax.parallel.sharding import placed, replicated, row_sharding
from aloe_jax.plan import hlo
from aloe_jax.plan.flags import set_flag
from aloe_jax.plan.topology import Topology
from aloe_jax.train.adapters import with_adapters
from aloe_jax.train.forward import Compute
from aloe_jax.train.state import abstract_state, make_optimizer
from aloe_jax.train.step import make_step
from aloe_jax.tree.pack import empty_row
from aloe_jax.tree.row import Capacity

INSTALL = "pip install 'aloe_jax[plan]'"
ROOMS = ("decode", "models", "ops", "parallel", "train", "tree")  # whose code a program is made from
STEPS = 1000  # of the learning-rate schedule; the compiled program does not depend on it
# libtpu looks for a TPU machine's metadata otherwise, and refuses a second process that has it open.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",  # any; the topology's name says what is compiled for
}
_SIZE = r"([\d.]+)([KMGT])"
_TOO_LARGE = (
    re.compile(rf"required for HLO temporaries \({_SIZE}\) exceeds available HBM \({_SIZE}\)"),
    re.compile(rf"Used {_SIZE} of {_SIZE} hbm"),
)
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Figures:
    """What the compiler says of a program, bytes of one chip. Where it did not fit, `needed` and `available` are the
    compiler's and all else is 0."""

    needed: float  # at the peak: arguments, results, temporaries
    available: float = 0.0  # 0: it compiled, so the chip's memory was enough
    arguments: float = 0.0
    temporaries: float = 0.0
    received: Mapping[str, float] = dataclasses.field(default_factory=dict)
    runs: Mapping[str, int] = dataclasses.field(default_factory=dict)
    # `received` by the places along each axis of the slice that the chips of a group take up, as "4x1x1".
    over: Mapping[str, float] = dataclasses.field(default_factory=dict)
    hbm: float = 0.0  # read and written
    unbounded: Sequence[str] = ()  # loops that count once because the module does not say how often they run
    seconds: float = 0.0  # that the compilation took

    @property
    def compiled(self) -> bool:
        return not self.available


def planned_model(config: Mapping[str, Any]) -> ModelConfig:
    """The model with its adapters. `config.model.sizes` stands for a source that is no folder here, so that nothing is
    downloaded. InputError for a source or sizes that make no model."""
    source, sizes = config["model"]["source"], config["model"]["sizes"]
    if sizes and not Path(source).expanduser().is_dir():
        model = model_config(dict(sizes), "config.model.sizes")
    else:
        model = read_config(resolve_model(source))[0]
    return with_adapters(model, config["lora"])


def topology_mesh(topology: Topology, mesh: Mapping[str, int]) -> Mesh:
    """The config's mesh over the chips of a slice.

    Raises InputError if libtpu is missing or does not know the slice, or if the mesh does not fit it.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise InputError(f"libtpu, which compiles for TPUs, is not installed; run `{INSTALL}` (Linux, x86-64)")
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    set_flag()
    jax.config.update("jax_platforms", "cpu")  # leaves a TPU of this machine to who is using it
    try:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=topology.name).devices
    except Exception as error:  # jax has no type for it
        reason = str(error).splitlines()[0]
        raise InputError(f"--topology: libtpu does not compile for '{topology.name}' ({reason})") from None
    return make_mesh(**mesh, devices=devices)


def compile_step(
    config: Mapping[str, Any], stage: str, model: ModelConfig, mesh: Mesh, rows: int, micro_batches: int
) -> Callable[[], Any]:
    """Lowers the training step of `stage` over [micro_batches, rows, ...]; the result compiles it."""
    section, compute = config[stage], Compute(**config["compute"])
    optimizer = make_optimizer(section, STEPS)
    place = row_sharding(mesh, leading=1)
    batch = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((micro_batches, rows, *leaf.shape), leaf.dtype, sharding=place),
        empty_row(Capacity(**config["dataset"]["row"])),
    )
    used = jax.ShapeDtypeStruct((), jnp.int32, sharding=replicated(mesh))
    step: Any = make_step(model, section["objective"], section, compute, optimizer, mesh)
    return lambda: step.lower(abstract_state(model, optimizer, mesh), batch, used).compile()


def abstract_params(model: ModelConfig, mesh: Mesh) -> decoder.Params:
    """Shapes and shardings of the parameters (f32)."""
    return placed(decoder.abstract_params(model), decoder.shardings(model, mesh))


def compile_decoding(config: Mapping[str, Any], model: ModelConfig, mesh: Mesh) -> dict[str, Callable[[], Any]]:
    """The engine's two programs, each a function that compiles it: a chunk of a prompt, and a burst of all slots. As
    the engine of a run does, they compute in f32."""
    slots, context = config["serve"]["slots"], min(config["serve"]["context"], model.context)
    whole = -(-context // engine.CHUNK) * engine.CHUNK

    def abstract(tree: Any, place: Any) -> Any:
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), tree)

    params, everywhere = abstract_params(model, mesh), replicated(mesh)
    cache = abstract(
        jax.eval_shape(lambda: empty_cache(model, slots, whole, jnp.float32)),
        NamedSharding(mesh, PartitionSpec(None, None, "tensor")),
    )
    state = abstract(jax.eval_shape(lambda: engine._idle(slots)), everywhere)
    number = jax.ShapeDtypeStruct((), jnp.int32, sharding=everywhere)
    chunk = jax.ShapeDtypeStruct((1, engine.CHUNK), jnp.int32, sharding=everywhere)

    def prefill(params: Any, cache: Any, tokens: Any, start: Any, slot: Any) -> Any:
        return engine._prefill(params, cache, tokens, start, slot, model=model, dtype=jnp.float32)

    def burst(params: Any, cache: Any, state: Any) -> Any:
        ends = jnp.zeros(1, jnp.int32)
        options = {"model": model, "dtype": jnp.float32, "ends": ends, "vocab": None}
        return engine._burst(params, cache, state, None, False, engine.BURST, **options)

    return {
        "prefill": lambda: jax.jit(prefill, donate_argnums=1).lower(params, cache, chunk, number, number).compile(),
        "burst": lambda: jax.jit(burst, donate_argnums=(1, 2)).lower(params, cache, state).compile(),
    }


def figures(compile_it: Callable[[], Any], mesh: Mesh, unknown_trips: int | None = None) -> Figures:
    """Compiles and reads off. `unknown_trips` as of `hlo.traffic`. A program that does not fit is a result.

    Raises InputError where the compiler refuses the program for another reason, or where its module cannot be read.
    """
    start = time.monotonic()
    try:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # names the chip to Mosaic; JAX 0.12 asks for it
            compiled = compile_it()
    except jax.errors.JaxRuntimeError as error:
        refused = too_large(str(error))
        if refused is None:
            raise InputError(
                f"the TPU compiler refuses the program ({_first_line(error)}); change config.compute.attention, "
                "config.compute.chunk or config.dataset.row"
            ) from None
        return Figures(*refused, seconds=time.monotonic() - start)
    memory = compiled.memory_analysis()
    seconds = time.monotonic() - start
    try:
        traffic = hlo.traffic(hlo.parse(compiled.as_text()), unknown_trips)
    except ValueError as error:
        raise InputError(
            f"the module that jaxlib {importlib.metadata.version('jaxlib')} compiled cannot be read ({error}); "
            "install a version that this package was tried with"
        ) from None
    over: defaultdict[str, float] = defaultdict(float)
    for members, received in traffic.over.items():
        over[extents(mesh, members)] += received
    return Figures(
        memory.peak_memory_in_bytes,
        0.0,
        memory.argument_size_in_bytes,
        memory.temp_size_in_bytes,
        traffic.received,
        traffic.runs,
        dict(over),
        traffic.hbm,
        traffic.unbounded,
        seconds,
    )


def extents(mesh: Mesh, members: Sequence[int]) -> str:
    """How many places along each axis of the slice some chips take up, as "4x1x1"."""
    devices = mesh.devices.reshape(-1)
    places = zip(*(devices[number].coords for number in members), strict=True)
    return "x".join(str(len(set(axis))) for axis in places)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")


def too_large(message: str) -> tuple[float, float] | None:
    """(bytes needed, bytes available) of a chip's memory if that is what the compiler's refusal is about."""
    found = next(filter(None, (pattern.search(message) for pattern in _TOO_LARGE)), None)
    if found is None:
        return None
    needed, available = (float(found[part]) * _UNITS[found[part + 1]] for part in (1, 3))
    return needed, available


def cached(key: Mapping[str, Any], make: Callable[[], Figures]) -> Figures:
    """The figures kept for `key`, made where there are none. The versions of compiler and code belong to every key."""
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "libtpu")}
    whole = files.canonical({"key": key, "versions": versions, "code": _code_hash()})
    path = cache_root() / "plans" / f"{files.sha256(whole)[:32]}.json"
    if path.exists():
        return Figures(**files.read_json(path))
    found = make()
    files.write_json(path, dataclasses.asdict(found))
    return found


def _code_hash() -> str:
    """Of all that a program is made from and read off with: a changed kernel or model is another program."""
    root = Path(aloe_jax.__file__).parent
    paths = [path for room in ROOMS for path in sorted((root / room).rglob("*.py"))]
    paths += [root / "plan/compile.py", root / "plan/hlo.py"]
    return files.sha256(*(path.read_bytes() for path in paths))
