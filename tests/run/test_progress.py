"""The progress display: plain lines without a terminal, bars with one."""

import io

import pytest
from etils import epath
from rich.console import Console

from aloe_jax.run import progress as progress_module
from aloe_jax.run.progress import Progress
from aloe_jax.run.progress_file import read_progress
from aloe_jax.run.progress_row import Row
from helpers.waiting import until


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


def test_a_narrow_terminal_drops_rates_first_and_keeps_bar_and_time_left():
    """Of 8/59 steps the least line is the name, a bar of 10, the count and the time left. Each piece takes its length
    and a comma with a space, and everything but the name, the bar and four columns between them is the text."""
    row = Row(
        "preference",
        75.0,
        done=8,
        total=59,
        unit="steps",
        figures=("loss 0.6931", "accuracy 0.50"),
        rates=("1,234 tokens per second", "12 a minute"),
        left=242.0,
    )
    whole = "8/59 steps, loss 0.6931, accuracy 0.50, 1:15, 1,234 tokens per second, 12 a minute, 4:02 left"
    widths = {width: row.counted(width) for width in range(20, 140)}
    assert widths[len(whole) + 24] == whole
    assert widths[len(whole) + 23] == whole.replace(", 12 a minute", "")
    assert widths[80] == "8/59 steps, loss 0.6931, accuracy 0.50, 1:15, 4:02 left"
    assert widths[60] == "8/59 steps, loss 0.6931, 4:02 left"
    assert widths[57] == "8/59 steps, 4:02 left"
    assert widths[44] == "8/59, 4:02 left"
    assert widths[37] == widths[20] == "4:02 left"
    for width in range(37, 140):
        (line,) = shown(row, width)
        assert len(line) <= width
        done, bar = line.count("━"), line.count("━") + line.count("─")
        assert bar >= 10
        assert done == 8 * bar // 59
        assert line.endswith("4:02 left")


def test_work_without_a_count_has_a_clock_and_a_hint_where_it_fits():
    row = Row("sft", 42.0, doing="compiling step", hint="first time takes about a minute")
    assert shown(row, 60) == ["⠋ sft compiling step, 0:42 (first time takes about a minute)"]
    assert shown(row, 59) == ["⠋ sft compiling step, 0:42"]
    assert shown(Row("dataset", 3.0), 60) == ["⠋ dataset working, 0:03"]


def shown(row, width):
    """The line as a terminal has it, with the first of the turning marks."""
    display = io.StringIO()
    Console(file=display, width=width).print(row)
    return [line.replace(line[0], "⠋", 1).rstrip() for line in display.getvalue().splitlines()]


def test_what_cannot_be_counted_is_a_plain_line_every_ten_seconds(clock, display):
    """The first count ends it, and what was done around it comes back after it."""
    progress = Progress(Console(file=display, width=200))
    with progress.stage("sft"):
        with progress.doing("loading"), progress.doing("compiling the step", "a hint"):
            clock.now += 12
            assert until(lambda: "so far" in display.getvalue())
        with progress.doing("scoring"):
            progress.update(1, 5, "batches")
            clock.now += 59
    assert display.getvalue().splitlines()[1:-1] == [
        "sft: compiling the step, 12 s so far (a hint)",
        "sft: 1/5 batches",
    ]


def test_the_file_for_other_shells(clock, display, tmp_path):
    """It tells what is counted, and what is done without a count."""
    progress = Progress(Console(file=display), epath.Path(tmp_path / "progress.json"))
    with progress.stage("sft"):
        progress.update(2, 5, "steps, loss 0.69", "7 tokens per second")
        clock.now += 60
        progress.update(3, 5, "steps, loss 0.68", "7 tokens per second")
        with progress.doing("saving a checkpoint"):
            found = read_progress(tmp_path)
    assert (found.name, found.done, found.total, found.unit, found.doing) == (
        "sft",
        3,
        5,
        "steps",
        "saving a checkpoint",
    )
    assert (found.figures, found.rates, found.left) == (("loss 0.68",), ("7 tokens per second", "1 a minute"), 120.0)
    assert read_progress(tmp_path).doing == ""
    (tmp_path / "progress.json").write_text("[]")
    assert read_progress(tmp_path) is None


def test_a_disk_without_room_for_the_file_ends_nothing(display):
    """/dev/full refuses every write; the folder of the temporary file beside it refuses too."""
    progress = Progress(Console(file=display), epath.Path("/dev/full/progress.json"))
    with progress.stage("sft"):
        progress.update(1, 1, "steps")
    assert display.getvalue().splitlines()[1] == "sft: 1/1 steps"
