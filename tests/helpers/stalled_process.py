"""One of two processes of a run that step in turn; test_stall.py starts both. Arguments: PORT NUMBER.

After the first step process 1 waits for a message in its data, and process 0 for its own watch: it sends the message
once that has told of the stall.
"""

from __future__ import annotations

import os
import sys

os.environ["JAX_PLATFORMS"] = "cpu"

from aloe_jax.parallel import hosts
from aloe_jax.train.stall import StallWatch
from helpers.waiting import until


def main(port: str, number: str) -> None:
    hosts.connect(f"localhost:{port},2,{number}")
    with StallWatch(2.0 if number == "0" else 1000.0) as watch:
        watch.step(1)
        if number == "1":
            with watch.part("data"):
                hosts.receive()  # the stalled part
        else:
            watch.step(2)
            assert until(lambda: watch._told)
            hosts.send(b"enough")


if __name__ == "__main__":
    main(*sys.argv[1:])
