"""A stage that refused its data goes on with mended ones; one with work to lose asks first."""

import io

import pytest
from etils import epath
from rich.console import Console

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.run.outlook import RESTART, expected
from aloe_jax.run.progress import Progress
from aloe_jax.run.stage import Run, Stage, run_stages

ANSWERS = "answers.jsonl"


class Reader:
    """The stage `read`, which writes the lines of `data` up to the first "broken" one, and ends there."""

    def __init__(self, workdir, paid):
        self.data = ["a", "broken"]
        self.run = Run(epath.Path(workdir), {"seed": 7}, Progress(Console(file=io.StringIO())))
        digest = lambda run: {"data": files.sha256(*self.data)}  # noqa: E731
        self.stages = [Stage("read", (), ("seed",), self._work, digest, (ANSWERS,), paid=(ANSWERS,) if paid else ())]

    def __call__(self):
        run_stages(self.stages, self.run, ["read"])
        return (self.run.directory("read") / ANSWERS).read_text().split()

    def _work(self, run):
        for line in self.data:
            if line == "broken":
                raise InputError("line 2 is broken")
            files.append_line(run.directory("read") / ANSWERS, line)
        return {}


@pytest.mark.parametrize(("paid", "before"), [(False, ["a"]), (True, [])])
def test_mended_data_need_no_fresh(tmp_path, paid, before):
    """With nothing that the next call would go on with: nothing written, or what is written anew anyway."""
    reader = Reader(tmp_path, paid)
    reader.data = [*before, "broken"]
    with pytest.raises(InputError, match="line 2 is broken"):
        reader()
    reader.data = ["a", "b"]
    assert [found.action for found in expected(reader.stages, reader.run, ["read"], False)] == [RESTART]
    assert reader() == ["a", "b"]


def test_answers_that_were_paid_for_are_not_dropped(tmp_path):
    reader = Reader(tmp_path, paid=True)
    with pytest.raises(InputError, match="line 2 is broken"):
        reader()
    reader.data = ["a", "b"]
    with pytest.raises(InputError, match=r"was run with another input .* or --fresh to start"):
        reader()
    assert (tmp_path / "read" / ANSWERS).read_text() == "a\n"
