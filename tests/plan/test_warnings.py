"""What the report says beside its figures."""

import dataclasses
import re

from aloe_jax.plan import program
from helpers.tiny_plan import COMPILED, needs_libtpu


@needs_libtpu
class TestSaidInTheReport:
    def test_copies_are_planned_inside_the_slice(self, here, monkeypatch):
        monkeypatch.setattr(program, "figures", lambda *given: COMPILED)
        assert "config.mesh.replica" not in here(None, "--stage=sft")[1]
        assert (
            "warning: config.mesh.replica is 2: its copies are planned inside this one slice"
            in here(None, "--stage=sft", "--config.mesh.replica=2")[1]
        )

    def test_loops_without_a_bound_and_groups_of_chips(self, here, monkeypatch):
        """2e9 bytes of 6e9 go between two chips over one link, at 50 GB/s, the rest over two: 0.04 + 0.04 s."""
        over = {"2x2x1": 4e9, "1x2x1": 2e9}
        found = dataclasses.replace(
            COMPILED, received={"all-gather": 6e9}, runs={"all-gather": 3}, over=over, unbounded=("while.1", "while.7")
        )
        monkeypatch.setattr(program, "figures", lambda *given: found)
        out = here(None, "--stage=sft")[1]
        assert "warning: 2 loops of the step do not say how often they run (while.1, while.7)" in out
        assert re.search("interconnect +6 GB +0.08 s", out)
        assert re.search("among 1x2 +2 GB of it at 50 GB/s", out)
