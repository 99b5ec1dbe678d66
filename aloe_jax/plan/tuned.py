"""`aloe plan --tuning`: what each group of `config.tuning` changes, compiled with and without it.

libtpu reads its flags once, so every compilation is a process of its own: `aloe plan` with the groups up to that one.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aloe_jax import files
from aloe_jax.errors import AloeError
from aloe_jax.parallel.chips import GIB
from aloe_jax.plan.compile import planned_model
from aloe_jax.plan.flags import tuning_groups
from aloe_jax.plan.remat import parameters_of
from aloe_jax.plan.settings import PlannedSettings
from aloe_jax.plan.topology import parse_topology
from aloe_jax.plan.training import STAGES
from aloe_jax.plan.tuning import GROUPS, remat_for

OK = (0, 1)  # the exit codes of a plan: it fits, it does not


@dataclass(frozen=True)
class Step:
    """What one compilation had more than the one before, why and from which source, and its report as JSON."""

    name: str
    what: str
    source: str
    plan: Mapping[str, Any]


def compile_each(
    settings: PlannedSettings,
    stage: str,
    topology_name: str,
    arguments: Sequence[str],
    progress: Callable[[str], None] = lambda line: None,
) -> list[Step]:
    """Plans of a stage without groups, then with each group of `config.tuning` added in turn, and at last with the
    preset of `config.compute.remat` for the chip and the model's size, if there is another one, and the groups that go
    with it. `arguments` are those of `aloe plan` that name the config. AloeError if a plan cannot be made."""
    topology = parse_topology(topology_name)
    groups = tuning_groups(topology.chip.name, settings.sections)
    common = [*arguments, f"--stage={stage}", f"--topology={topology_name}"]
    steps = []
    for count in range(len(groups) + 1):
        name = groups[count - 1] if count else "no group"
        progress(f"compiling with {name}, {count + 1} of {len(groups) + 1}")
        group = GROUPS.get(name)
        plan = _plan([*common, f"--config.tuning={','.join(groups[:count])}"])
        steps.append(Step(name, group.what if group else "", group.source if group else "", plan))
    if stage in STAGES:
        preset = remat_for(topology.chip.name, parameters_of(planned_model(settings.model, settings.lora)))
        if preset is not None and preset.value != settings.compute.kept:
            argument = f"--config.compute.remat={preset.value}"
            progress(f"compiling with {argument}")
            offloading = settings.replaced(compute=replace(settings.compute, remat=preset.value))
            groups = tuning_groups(topology.chip.name, offloading.sections)
            plan = _plan([*common, f"--config.tuning={','.join(groups)}", argument])
            steps.append(Step(argument, preset.what, preset.source, plan))
    return steps


def _plan(arguments: Sequence[str]) -> Mapping[str, Any]:
    """The report of `aloe plan` in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.json"
        command = [sys.executable, "-m", "aloe_jax.cli.main", "plan", *arguments, f"--json={path}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode not in OK or not path.exists():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise AloeError(f"--tuning: a compilation ended with exit code {done.returncode} ({last})")
        found: Mapping[str, Any] = files.read_json(path)
        return found


def changes_text(steps: Sequence[Step]) -> str:
    """A table with a line per compilation and program, and what each group is for."""
    return "\n".join(_lines(steps))


def _lines(steps: Sequence[Step]) -> Iterator[str]:
    yield "Each line has the groups of flags of the lines above it too; per chip and step, times are estimates."
    wide = max(len(step.name) for step in steps)
    heads = f"{'program':<8} {'HBM, GiB':>9} {'traffic, GB':>12} {'links, GB':>10} {'beside':>7} {'at least, s':>12}"
    yield f"{'':{wide}}  {heads}"
    for step in steps:
        for program in step.plan["programs"]:
            received = sum(program["received"].values())
            beside = f"{program['beside'] / received:.0%}" if received else "-"
            seconds = f"{program['time']['seconds']:.4g}" if program["time"] else "does not fit"
            yield (
                f"{step.name:{wide}}  {program['name']:<8} {program['memory']['peak'] / GIB:9.3f} "
                f"{program['hbm'] / 1e9:12.5g} {received / 1e9:10.5g} {beside:>7} {seconds:>12}"
            )
    for step in steps[1:]:
        yield f"{step.name}: {step.what} ({step.source})"
