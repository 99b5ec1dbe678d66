"""How XLA compiles in the tests and in the commands that they start."""

# A test's program is compiled once and runs for moments on small arrays: LLVM's optimisations and the MLIR emitters of
# fusions cost far more than they save. The workers and the commands have the same flags, since these are part of the
# keys in the session's cache of what was compiled.
QUICK = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"


def devices(count: int) -> str:
    """The value of XLA_FLAGS for a process with that many CPU devices."""
    return f"{QUICK} --xla_force_host_platform_device_count={count}"
