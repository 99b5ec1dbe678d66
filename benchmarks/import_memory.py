"""Memory and bytes read while a model of 1.2 billion parameters is loaded, imported and exported.

    uv run python benchmarks/import_memory.py                    # needs 5 GB of disk and 6 GB of memory for a while
    uv run python benchmarks/import_memory.py --folder=DIR       # keeps the random model in DIR and uses it again

The model has the shape of Llama 3.2 1B and random bfloat16 weights in shards of 1 GB. Each row is a process of its own
on the CPU, where parameters are part of the memory that is measured: the largest resident set less the parameters is
what the work, the interpreter and JAX take besides. The last load is by two processes that share a mesh. Bytes are
counted by our reader and, beside it, by the kernel (`rchar` of /proc/self/io: all bytes of read calls, from the cache
or not; Linux only). The largest tensor has 525 MB.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
from rich.console import Console
from rich.table import Table
from worker import resident

from aloe_jax import files
from aloe_jax.cli import main as cli
from aloe_jax.hub import byte_ranges, config_file, families, tensors
from aloe_jax.hub.load import load_params
from aloe_jax.hub.safetensors_file import Tensor
from aloe_jax.models import decoder
from aloe_jax.parallel.mesh import make_mesh
from aloe_jax.parallel.sharding import param_shardings

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 128_256,
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "intermediate_size": 8192,
    "max_position_embeddings": 8192,
    "rope_theta": 500_000.0,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}
SHARD_BYTES = 1_000_000_000
MB = 1_000_000
WORKER = "--worker"


@dataclass(frozen=True)
class Case:
    """One measurement: what is done, on how many devices and processes (fsdp over all), parameters as which type."""

    work: str
    dtype: str = "bfloat16"
    devices: int = 1
    processes: int = 1

    @property
    def name(self) -> str:
        """As the table calls it."""
        return f"{self.work}, {self.dtype}, fsdp={self.devices}" if self.work == "load" else f"aloe {self.work}"


@dataclass(frozen=True)
class Measured:
    """What one process took; sizes in bytes."""

    seconds: float
    parameters: int  # that were in its memory
    before: int  # resident before the work
    peak: int  # largest resident set
    read: int  # by our reader
    kernel_read: int  # by the kernel's count

    @property
    def besides(self) -> int:
        """The peak less the parameters."""
        return self.peak - self.parameters


CASES = (
    Case("load"),
    Case("load", "float32"),
    Case("load", "float32", devices=4),
    Case("load", "float32", devices=2, processes=2),
    Case("import"),
    Case("export"),
)


def write_model(folder: Path) -> None:
    """The random model: every tensor one draw of 64 thousand numbers, repeated, so that writing it takes seconds."""
    config = families.model_config(CONFIG, "benchmark")
    draw = np.random.default_rng(0).standard_normal(1 << 16, np.float32).astype(ml_dtypes.bfloat16)

    def random(shape: tuple[int, ...]) -> Callable[[], np.ndarray]:
        return lambda: np.resize(draw, shape)

    dtype = np.dtype(ml_dtypes.bfloat16)
    stored = {
        name: Tensor(weight.shape, dtype, random(weight.shape))
        for weight in families.weights(config)
        for name in families.tensor_names(weight, config)
    }
    tensors.write_safetensors(folder, stored, None, SHARD_BYTES)
    files.write_json(folder / "tokenizer.json", {})  # is copied, never opened here
    files.write_text(folder / "chat_template.jinja", "{{ messages }}")
    files.write_json(folder / config_file.CONFIG, CONFIG)  # last, so that a folder with it is whole


def work(folder: Path, case: Case, process: int, port: int) -> Measured:
    """Do the work of a case in this process and measure it."""
    if case.processes > 1:
        jax.distributed.initialize(f"localhost:{port}", case.processes, process)
    if case.work != "import":
        jax.devices()  # the backend starts
    before, read_before, start = resident("VmRSS"), _kernel_read(), time.perf_counter()
    size = load(folder, case.dtype) if case.work == "load" else copy(folder, case.work)
    return Measured(
        seconds=time.perf_counter() - start,
        parameters=size,
        before=before,
        peak=resident("VmHWM"),
        read=byte_ranges.bytes_read(),
        kernel_read=_kernel_read() - read_before,
    )


def load(folder: Path, dtype: str) -> int:
    """Load the model over all devices; returns the bytes of the parameters that this process holds."""
    config, _ = config_file.read_config(folder)
    shardings = param_shardings(decoder.abstract_params(config), decoder.logical_axes(config), make_mesh())
    params = jax.block_until_ready(load_params(folder, config, shardings, dtype))
    return sum(shard.data.nbytes for leaf in jax.tree.leaves(params) for shard in leaf.addressable_shards)


def copy(folder: Path, command: str) -> int:
    """Import or export to a temporary folder; returns the bytes of the parameters that were in memory."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as out:
        if cli.main([command, str(folder), f"--out={out}/out", "--max-shard-size=1GB"]):
            raise SystemExit(f"aloe {command} failed")
    config, _ = config_file.read_config(folder)
    return 2 * sum(
        math.prod(leaf.shape) for leaf in jax.tree.leaves(decoder.abstract_params(config)) if command == "export"
    )


def _kernel_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


def measure(folder: Path, case: Case) -> list[Measured]:
    """Run `work` in each process of a case and return what it measured."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    devices = f"--xla_force_host_platform_device_count={case.devices // case.processes}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": devices}
    running = [
        subprocess.Popen(
            [sys.executable, __file__, WORKER, folder, json.dumps(vars(case)), str(number), str(port)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for number in range(case.processes)
    ]
    answers = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise SystemExit(f"{case.name} failed; see its message above")
    return [Measured(**json.loads(answer.splitlines()[-1])) for answer in answers]


def main() -> int:
    """Measure all cases; returns 1 if a process took a gigabyte besides its parameters or read more than its share of
    the file."""
    parser = argparse.ArgumentParser(description="Measure memory and bytes read while a random 1B model is loaded.")
    parser.add_argument("--folder", type=Path, help="where the model is kept (default: a temporary folder)")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / config_file.CONFIG).exists():
            write_model(folder)
        size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        rows = [(case, number, found) for case in CASES for number, found in enumerate(measure(folder, case))]
    table = Table(title=f"a model of {size / MB:,.0f} MB (bfloat16), sizes in MB")
    for column in ("", "process", "parameters", "peak", "besides", "at start", "read", "of the file", "rchar", "s"):
        table.add_column(column, justify="right" if column else "left")
    for case, number, found in rows:
        sizes = found.parameters, found.peak, found.besides, found.before, found.read
        columns = [f"{value / MB:,.0f}" for value in sizes]
        kernel_read, seconds = f"{found.kernel_read / MB:,.0f}", f"{found.seconds:.1f}"
        table.add_row(case.name, str(number), *columns, f"{found.read / size:.1%}", kernel_read, seconds)
    Console(width=120).print(table)
    if args.json:
        files.write_json(args.json, [vars(case) | {"process": number} | asdict(found) for case, number, found in rows])
    return int(any(found.besides > 1000 * MB or found.read > 1.01 * size / case.processes for case, _, found in rows))


if __name__ == "__main__":
    if sys.argv[1:2] == [WORKER]:
        print(json.dumps(asdict(work(Path(sys.argv[2]), Case(**json.loads(sys.argv[3])), *map(int, sys.argv[4:])))))
    else:
        sys.exit(main())
