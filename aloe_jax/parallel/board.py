"""A board on which every process of a run notes where it is, in JAX's coordination service, for the others to read.

The service is answered by threads of the runtime, so it works while a process is blocked in a computation on devices,
where the control connection's messages would wait for it.
"""

from __future__ import annotations

import json
import socket
from typing import Any

from aloe_jax.parallel.meeting import jax_state

_FOLDER = "aloe-board"
Note = dict[str, Any]


def post(note: Note) -> None:
    """Replace this process's note, plain values by name; its host is added. Does nothing for the only process of a
    run."""
    state = jax_state()
    if state.client is not None:
        text = json.dumps({"host": socket.gethostname(), **note})
        state.client.key_value_set(f"{_FOLDER}/{state.process_id}", text, allow_overwrite=True)


def notes() -> dict[int, Note]:
    """The notes of all processes that have posted one, by number."""
    client = jax_state().client
    found = client.key_value_dir_get(_FOLDER) if client is not None else []
    return {int(key.rpartition("/")[2]): json.loads(text) for key, text in sorted(found)}


def own_number() -> int:
    """The number of this process, 0 for the only one; unlike `hosts.process_index` it starts no devices."""
    return int(jax_state().process_id)
