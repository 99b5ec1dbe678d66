"""What `aloe launch` says about a plan: unknown, kept, compiled on request, or why it does not fit."""

from pathlib import Path

import jax
import pytest

from aloe_jax.plan import program, training
from helpers.tiny_plan import COMPILED, CONFIG, TOO_LARGE, needs_libtpu

pytestmark = needs_libtpu
STAGES = "--stages=dataset,sft"


@pytest.fixture
def tiny(launch, tmp_path, monkeypatch):
    """The command for a model that compiles in seconds, with an empty cache."""
    monkeypatch.setenv("ALOE_CACHE", str(tmp_path / "cache"))
    Path("tiny.py").write_text(CONFIG)
    return lambda *more: launch("--on=skypilot", "--topology=v5e:2x2", STAGES, *more, config="tiny.py")


def test_unknown_compiled_and_kept(tiny, monkeypatch):
    code, out, _ = tiny("--plan=kept")
    assert code == 0
    (line,) = plan_lines(out)
    assert line == "plan: whether sft fits is not known yet; --plan=compile finds out, in minutes"
    with monkeypatch.context() as patch:
        patch.setattr(program, "figures", lambda *_: COMPILED)  # 1 GiB and 1 GB of traffic, at 819 GB/s
        code, out, _ = tiny("--plan=compile")
    assert code == 0
    (fits,) = plan_lines(out)
    assert fits == "plan: sft fits v5e:2x2 with 1.00 of 15.75 GiB per chip; at least (an estimate): step 0.00122 s"
    out = tiny("--plan=kept", "--config.launch.price=1.2", "--overwrite")[1]
    assert plan_lines(out) == [fits]
    assert "the whole training" in out.partition(fits)[2].splitlines()[1]


def test_what_does_not_fit_is_not_written(tiny, monkeypatch):
    def refuse(*_):
        raise jax.errors.JaxRuntimeError(TOO_LARGE)

    monkeypatch.setattr(training, "compile_step", refuse)
    code, out, errors = tiny("--plan=compile")
    assert (code, out) == (1, "")
    assert "aloe: sft does not fit a chip of v5e:2x2; a micro-batch alone needs 18.0 GiB" in errors.splitlines()[-1]
    assert not Path("a.yaml").exists()


def test_what_cannot_be_planned_is_told(tiny):
    code, out, _ = tiny("--plan=kept", "--config.mesh.tensor=3")
    assert code == 0
    assert plan_lines(out)[0].startswith("plan: whether sft fits is not known (config.mesh")


def plan_lines(out):
    return [line for line in out.splitlines() if line.startswith("plan: ")]
