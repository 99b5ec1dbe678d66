"""What a compiled module moves, read from its text: `traffic_of` and its result.

XLA's own cost analysis counts the body of a loop once, and each step of a collective that was spread over several
fusions. Here the text is parsed (`module.py`) and walked from its entry (`visits.py`): a loop's body counts as often as
it runs, and a collective (identified by its channel) once where it stands, in a computation and the fusions of it
(`collectives.py`, `hbm.py`). The form of the text is XLA's own and may change with its version: then `traffic_of`
raises `UnreadableModuleError`, and nothing outside this folder depends on the text.
"""

from aloe_jax.plan.hlo.module import Shape, UnreadableModuleError
from aloe_jax.plan.hlo.traffic import Collective, Traffic, traffic_of

__all__ = ["Collective", "Shape", "Traffic", "UnreadableModuleError", "traffic_of"]
