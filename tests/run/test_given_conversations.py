"""Conversations of a file: nothing of a run but they is needed for a data set and a report."""

import pytest

from helpers.aloe_command import copy_stages, run_arguments

pytestmark = pytest.mark.slow


def test_they_need_no_personas_and_a_report_takes_what_is_there(finished, aloe_process, tiny_model, tmp_path):
    given = copy_stages(finished.workdir, tmp_path / "given", "conversations") / "conversations/trees.jsonl"
    workdir, said = tmp_path / "run", []
    for stages in ("conversations,report", "dataset,report", "report"):
        more = (f"--config.conversations.source={given}", f"--stages={stages}")
        result = aloe_process.call(run_arguments(tiny_model, workdir, *more))
        assert result.returncode == 0, result.stderr
        said.append(result.stderr)
    assert not (workdir / "personas").exists()
    assert "report: done" in said[1]  # the data set is new in it
    assert "report: finished before, skipped" in said[2]
