"""What rounds say that they take on the disk, by hand."""

import dataclasses
import io

import pytest
from etils import epath
from rich.console import Console

from aloe_jax.cli.experiment import load_experiment
from aloe_jax.errors import InputError
from aloe_jax.models import decoder
from aloe_jax.run.model import chat_format
from aloe_jax.run.progress import Progress
from aloe_jax.run.stage import Run
from aloe_jax.tree.probe import QUESTION
from aloe_jax.tree.schema import Message
from data_gen.online.methods import METHODS
from data_gen.online.needs import CALL, REPLY, TOKEN, check_disk, check_paths, disk_needs, memory_in_words
from data_gen.online.outline import outlines
from data_gen.online.round_settings import OnlineSettings
from data_gen.online.settings import RolloutSettings
from helpers.aloe_command import ROOT
from helpers.tiny import MODEL

THREE = RolloutSettings(turns=3, siblings=2, futures=2, horizon=1.0, share=0.67)


def needs_of(model, tmp_path, *more):
    shape = ("turns=3", "siblings=2", "futures=2", "horizon=1.0", "share=0.67")
    given = [f"--config.online.rollout.{each}" for each in shape]
    config = f"--config={ROOT / 'configs/demo.py'}"
    sizes = ("--config.online.trees=10", "--config.online.max_tokens=20")
    sections = load_experiment([config, f"--config.model.source={model}", *given, *sizes, *more])
    return Run(epath.Path(tmp_path / "run"), sections, Progress(Console(file=io.StringIO())))


def test_replies_of_a_tree():
    """Three on the main path. The futures of turns 1 and 2 have a turn, those of turn 3 none: beside the main path
    another sibling and 2 x 2 - 1 replies of futures, 4 in each of the two turns with most."""
    assert [THREE.ahead(turn) for turn in (1, 2, 3)] == [1, 1, 0]
    assert THREE.replies == 3 + 4 + 4


@pytest.mark.parametrize("changes", [{}, {"turns": 10, "horizon": 2.0}, {"siblings": 4, "futures": 1, "probes": 2}])
def test_replies_of_trees_that_are_rolled_out(changes):
    """With siblings in every turn there are no fewer."""
    shape = dataclasses.replace(THREE, share=1.0, **changes)
    for name, method in METHODS.items():
        asked = shape if method.shaped(shape).chosen else dataclasses.replace(shape, probes=0)
        settings = OnlineSettings(method=name, objective=method.objectives[0], trees=4, rollout=asked)
        for tree in outlines(settings):
            assert sum(node.role == "assistant" for node in tree.nodes) == method.shaped(shape).replies


def test_disk(tiny_model, tmp_path):
    """Two checkpoints at a time, of parameters and two moments in f32; trees of five rounds and of the one under way,
    ten trees each. A budget of 5,000 tokens is 3 rounds of 11 x 10 replies of 20; a model that judges and one that
    plays the user answer each of them."""
    found = disk_needs(needs_of(tiny_model, tmp_path))
    assert found.checkpoints == pytest.approx(2 * 12 * decoder.parameter_count(MODEL), rel=1e-3)
    assert found.trees == 6 * 110 * (20 * TOKEN + REPLY)
    assert found.answers == 0
    served = [f"--config.roles.{role}.{each}" for role in ("judge", "user")
              for each in ("player=model", "base_url=http://localhost:1/v1", "model=m")]  # fmt: skip
    found = disk_needs(needs_of(tiny_model, tmp_path, "--config.online.budget=5000", *served))
    assert found.trees == 4 * 110 * (20 * TOKEN + REPLY)
    assert found.answers == 3 * 110 * 2 * CALL


def test_a_disk_that_is_too_small_is_refused(tiny_model, tmp_path):
    run = needs_of(tiny_model, tmp_path, "--config.online.keep=100000000")
    with pytest.raises(InputError, match=r"rounds take about [\d.]+ GiB on the disk \(checkpoints .* keep"):
        check_disk(run)
    run = needs_of(tiny_model, tmp_path)
    assert check_disk(run).startswith("about 0.")
    assert " of the reference model; rolling out also nothing; updating " in memory_in_words(run, "nothing")


def shortest(run, turns, last="-"):
    """The tokens of the prompt of that turn if the user says a dash each time, and `last` at last, to empty replies."""
    said, reply = Message(role="user", content="-"), Message(role="assistant", content="")
    dialogue = [*[said, reply] * (turns - 1), Message(role="user", content=last)]
    return len(chat_format(run).prompt_ids(dialogue))


def test_paths_without_room_for_a_reply(tiny_model, tmp_path):
    """The last of three turns, and a reply of 20 tokens."""

    def check(**given):
        check_paths(needs_of(tiny_model, tmp_path, *(f"--config.{name}={value}" for name, value in given.items())))

    least = shortest(needs_of(tiny_model, tmp_path), 3) + 20
    for name in ("dataset.max_path", "serve.context"):
        check(**{name: least})
        with pytest.raises(InputError, match=rf"config.{name}: {least - 1}, .* turn 3 .* at least {least}, or lower"):
            check(**{name: least - 1})


def test_paths_without_room_for_an_answer_of_a_probe(tiny_model, tmp_path):
    """Two of three turns are chosen, so one of them is the second or a later one; the answer has 200 tokens."""

    def check(longest):
        given = ("online.rollout.probes=2", "online.rollout.probe_tokens=200", f"dataset.max_path={longest}")
        check_paths(needs_of(tiny_model, tmp_path, *(f"--config.{each}" for each in given)))

    least = shortest(needs_of(tiny_model, tmp_path), 3, QUESTION) + 200
    check(least)
    with pytest.raises(InputError, match=rf"{least - 1}, .* a probe in turn 2 .* at least {least}, or lower"):
        check(least - 1)
