"""`aloe run` as one of several processes, with one shared stage in which one of them fails; test_exit_codes.py starts it.

Arguments: PLACE HOW STAMP, then those of `aloe`. The process of index PLACE fails after some work together, in the way
HOW, and writes the time to the file STAMP.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from aloe_jax.cli import commands
from aloe_jax.cli.main import entry
from aloe_jax.errors import InputError
from aloe_jax.parallel import hosts
from aloe_jax.run.stage import Stage

PLACE, HOW, STAMP = int(sys.argv[1]), sys.argv[2], sys.argv[3]


def work(run):
    for step in range(3):
        assert hosts.largest(hosts.process_index() + step) == hosts.process_count() - 1 + step
    if hosts.process_index() == PLACE:
        with open(STAMP, "w") as file:
            file.write(str(time.time()))
        if HOW == "input":
            raise InputError("config.seed: -1 must be at least 0")
        if HOW == "exception":
            raise ZeroDivisionError("division by zero")
        os.kill(os.getpid(), signal.Signals[HOW])
    if HOW == "input":
        threading.Event().wait()  # as in a computation on devices that never ends
    while True:
        hosts.largest(0)


commands.pipeline = lambda: [Stage("sft", (), (), work, everywhere=True)]
sys.argv[1:] = sys.argv[4:]
entry()
