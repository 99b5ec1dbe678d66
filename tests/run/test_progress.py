"""The progress display: plain lines without a terminal, bars with one."""

import io

import pytest
from rich.console import Console

from aloe_jax.run import progress as progress_module
from aloe_jax.run.progress import Progress


class FakeTime:
    """Replaces `time` in the module, so that no test sleeps."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = FakeTime()
    monkeypatch.setattr(progress_module, "time", clock)
    return clock


@pytest.fixture
def display():
    return io.StringIO()


def test_plain_lines_tell_counts_rate_and_time_left(clock, display):
    progress = Progress(Console(file=display, width=200))
    with progress.stage("sft"):
        for step in range(1, 41):
            progress.update(step, 40, f"steps, loss {1 / step:.2f}")
            clock.now += 3
    lines = display.getvalue().splitlines()
    assert lines[0] == "sft: started"
    assert lines[1] == "sft: 1/40 steps, loss 1.00"
    # A line every ten seconds: 12 s after the first step 4 more are done, 20 a minute, 35 of 3 s each are left.
    assert lines[2] == "sft: 5/40 steps, loss 0.20, 20 a minute, 1 min 45 s left"
    assert lines[-2] == "sft: 40/40 steps, loss 0.03, 20 a minute"
    assert lines[-1] == "sft: done in 2 min 00 s"
    assert len(lines) == 2 + 10 + 1


def test_what_was_there_before_counts_neither_as_rate_nor_as_time(clock, display):
    progress = Progress(Console(file=display, width=200))
    with progress.stage("conversations"):
        progress.update(90, 100, "trees")
        clock.now += 60
        progress.update(92, 100, "trees")
    assert "conversations: 92/100 trees, 2 a minute, 4 min 00 s left" in display.getvalue()


def test_a_second_count_of_a_stage_has_its_own_rate(clock, display):
    progress = Progress(Console(file=display, width=200))
    with progress.stage("preference"):
        for batch in (1, 2):
            progress.update(batch, 2, "batches scored")
            clock.now += 1000
        for step in (1, 2):
            progress.update(step, 2, "steps, loss 0.69")
            clock.now += 2
    assert "2/2 steps, loss 0.69, 30 a minute" in display.getvalue()


def test_a_failure_is_not_called_done(display):
    progress = Progress(Console(file=display))
    with pytest.raises(RuntimeError), progress.stage("export"):
        raise RuntimeError
    assert display.getvalue() == "export: started\n"


def test_skipped_and_free_lines_are_not_taken_for_markup(display):
    progress = Progress(Console(file=display, width=20))
    progress.skipped("personas")
    progress.line("[bold] is part of the text, however long the line is")
    assert display.getvalue().splitlines() == [
        "personas: finished before, skipped",
        "[bold] is part of the text, however long the line is",
    ]


def test_a_terminal_gets_a_bar_and_one_line_that_stays(display):
    progress = Progress(Console(file=display, force_terminal=True, width=120))
    with progress.stage("benchmark"):
        progress.update(3, 18, "dialogues, model base")
    shown = display.getvalue()
    assert "benchmark" in shown
    assert "3/18" in shown
    assert "dialogues, model base" in shown
    assert shown.splitlines()[-1].endswith("benchmark: done in 0 s")
