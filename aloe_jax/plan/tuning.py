"""Tuning presets: named groups of compiler flags, and what the backward pass keeps, per chip and size of model.

Each has a sentence and a source. `config.tuning` names groups; `auto` takes those whose source uses them for the chip
and for what the experiment does. docs/tuning.md has what `aloe plan --tuning` showed of each. This file imports nothing
that could load libtpu, which reads its flags once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

AUTO = "auto"
_MAXTEXT = "https://github.com/AI-Hypercomputer/maxtext/blob"
_LIBRARY = f"{_MAXTEXT}/48445cf00e73064e87886539714a8ba1794ee019/benchmarks/xla_flags_library.py"
_V5E = f"{_MAXTEXT}/00f69819e90416e480f2eaefb9f0f90df10862f7/benchmarks/maxtext_v5e_model_configs.py"
_V6E = f"{_MAXTEXT}/02df154393772cf3bd510cae6f8f4bc9c3457621/benchmarks/maxtext_trillium_model_configs.py"
_XLA = "https://github.com/openxla/xla/blob/28192b98dd37b19104368d815472672b5a28ad00/docs/flags_guidance.md"


@dataclass(frozen=True)
class Use:
    """What an experiment does that decides which groups help: copies of the model across slices, and what the backward
    pass keeps of a layer (`config.compute.remat`)."""

    replicas: int = 1
    remat: str = "full"


@dataclass(frozen=True)
class Group:
    """Flags that belong together. `chips` are those for which `auto` takes them, where `when` holds."""

    flags: tuple[str, ...]
    what: str
    source: str
    chips: tuple[str, ...] = ()
    when: Callable[[Use], bool] = lambda use: True


GROUPS: Mapping[str, Group] = {
    "whole_gathers": Group(
        ("--xla_jf_spmd_threshold_for_windowed_einsum_mib=1000000",),
        "weights are gathered whole before a product, not in a ring of permutes and partial sums, which costs more "
        "HBM traffic than it hides with the long rows of training",
        _XLA,
        ("v5e", "v5p", "v6e"),
    ),
    "async_gathers": Group(
        (
            "--xla_tpu_enable_async_collective_fusion=true",
            "--xla_tpu_enable_async_collective_fusion_fuse_all_gather=true",
            "--xla_tpu_enable_async_collective_fusion_multiple_steps=true",
            "--xla_tpu_overlap_compute_collective_tc=true",
            "--xla_enable_async_all_gather=true",
        ),
        "weights of a layer are gathered in steps of fusions that compute something else",
        _LIBRARY,
        ("v5e", "v5p", "v6e"),
    ),
    "async_reductions": Group(
        (
            "--xla_tpu_enable_async_collective_fusion=true",
            "--xla_tpu_enable_async_collective_fusion_fuse_all_reduce=true",
            "--xla_tpu_enable_async_collective_fusion_multiple_steps=true",
            "--xla_tpu_overlap_compute_collective_tc=true",
            "--xla_enable_async_all_reduce=true",
        ),
        "sums over chips, as of gradients, are formed beside computation in the same way",
        _XLA,
        ("v5e",),
    ),
    "scatter_layout": Group(
        (
            "--xla_tpu_use_minor_sharding_for_major_trivial_input=true",
            "--xla_tpu_relayout_group_size_threshold_for_reduce_scatter=1",
            "--xla_tpu_assign_all_reduce_scatter_layout=true",
        ),
        "gradients get the layout in which a chip's part of their sum lies together",
        _V5E,
        ("v5e", "v6e"),
    ),
    "scoped_vmem": Group(
        ("--xla_tpu_scoped_vmem_limit_kib=98304",),
        "one operation may use 96 MiB of a core's vector memory, so fusions take larger blocks, and what follows is "
        "fetched ahead into the rest",
        _V6E,
        ("v5e", "v6e"),
    ),
    "replica_overlap": Group(
        (
            "--xla_tpu_enable_data_parallel_all_reduce_opt=true",
            "--xla_tpu_data_parallel_opt_different_sized_ops=true",
        ),
        "sums of gradients across slices go on through the loops over layers, beside their computation",
        _XLA,
        ("v5e", "v5p", "v6e"),
        lambda use: use.replicas > 1,
    ),
    "host_transfers": Group(
        (
            "--xla_tpu_enable_all_experimental_scheduler_features=true",
            "--xla_tpu_enable_scheduler_memory_pressure_tracking=true",
            "--xla_tpu_host_transfer_overlap_limit=24",
            "--xla_tpu_aggressive_opt_barrier_removal=ENABLED",
            "--xla_lhs_prioritize_async_depth_over_stall=ENABLED",
            "--xla_tpu_enable_ag_backward_pipelining=true",
            "--xla_should_allow_loop_variant_parameter_in_chain=ENABLED",
            "--xla_should_add_loop_invariant_op_in_chain=ENABLED",
            "--xla_max_concurrent_host_send_recv=100",
            "--xla_tpu_scheduler_percent_shared_memory_limit=100",
            "--xla_latency_hiding_scheduler_rerun=2",
        ),
        "copies to and from the memory of the host run beside computation, many at a time",
        _LIBRARY,
        ("v5e", "v6e"),
        lambda use: use.remat == "offload",
    ),
    "gather_pipelining": Group(
        (
            "--xla_should_allow_loop_variant_parameter_in_chain=ENABLED",
            "--xla_should_add_loop_invariant_op_in_chain=ENABLED",
            "--xla_tpu_enable_ici_ag_pipelining=true",
        ),
        "the weights of the next layer are gathered while this one is computed, at the cost of memory for both",
        _XLA,
    ),
    "less_memory": Group(
        ("--xla_latency_hiding_scheduler_rerun=5",),
        "the scheduler tries again with less memory, for a program that does not fit by a little; it may be slower",
        _XLA,
    ),
}


@dataclass(frozen=True)
class Remat:
    """The value of `config.compute.remat` for a chip and models of up to `parameters`, rows of 4k to 8k tokens."""

    chip: str
    parameters: float
    value: str
    what: str
    source: str


REMATS = (
    Remat(
        "v5e",
        9e9,
        "offload",
        "llama3.1-8b with rows of 8,192 tokens leaves inputs and attention of its layers to the host's memory",
        _V5E,
    ),
    Remat("v5e", 20e9, "full", "the default model of 16 billion parameters recomputes whole layers", _V5E),
    Remat(
        "v6e",
        9e9,
        "offload",
        "llama3.1-8b with rows of 8,192 tokens leaves inputs and attention of its layers to the host's memory",
        _V6E,
    ),
    Remat("v6e", 33e9, "full", "the default model of 32 billion parameters recomputes whole layers", _V6E),
)


def remat_for(chip: str, parameters: float) -> Remat | None:
    """The preset for a model of that size; None where no source has one: `aloe plan --search` tries values."""
    return next((one for one in REMATS if one.chip == chip and parameters <= one.parameters), None)


def groups_of(tuning: Sequence[str], chip: str | None, use: Use) -> tuple[str, ...]:
    """The names of the groups that `config.tuning` stands for on a chip; None is one that is not in the table."""
    chosen = [name for name, group in GROUPS.items() if chip in group.chips and group.when(use)]
    return tuple(name for name in GROUPS if name in tuning or (AUTO in tuning and name in chosen))


def flags_of(groups: Sequence[str]) -> tuple[str, ...]:
    """The flags of some groups, each once."""
    return tuple(dict.fromkeys(flag for name in groups for flag in GROUPS[name].flags))
