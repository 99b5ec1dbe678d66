"""What stages need is checked before the first one starts, and what changed is told in words."""

import dataclasses
import datetime
import io
import os

import pytest
from etils import epath
from rich.console import Console

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.run.progress import Progress
from aloe_jax.run.stage import Run, Stage, run_stages

BOOK, PAGE, NOTE = (
    Stage(name, needs, (), lambda run: {}) for name, needs in (("book", ()), ("page", ("book",)), ("note", ()))
)


@pytest.fixture
def call(tmp_path):
    """A function that runs stages, all or those named, and returns what is displayed."""

    def run(*stages, names=(), **options):
        display = io.StringIO()
        here = Run(epath.Path(tmp_path / "run"), {"seed": 1}, Progress(Console(file=display, width=200)))
        run_stages(stages, here, names or [stage.name for stage in stages], **options)
        return display.getvalue()

    return run


def test_what_a_stage_needs_is_finished_or_comes_before_it(call, tmp_path):
    with pytest.raises(InputError, match=r"stage 'page' needs 'book', .* run it first, or name it in --stages too"):
        call(BOOK, PAGE, NOTE, names=("page", "note"))
    with pytest.raises(InputError, match="stage 'page' needs 'book'"):
        call(NOTE, BOOK, PAGE, names=("note", "page"))
    assert not (tmp_path / "run" / "note").exists()
    assert "page: done" in call(BOOK, PAGE, NOTE)


def test_an_interrupted_stage_is_not_finished(call):
    def stop(run):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call(dataclasses.replace(BOOK, work=stop))
    with pytest.raises(InputError, match="stage 'page' needs 'book', which is not finished"):
        call(BOOK, PAGE, names=("page",))


def test_an_unknown_stage_is_named_with_those_there_are(call, tmp_path):
    with pytest.raises(InputError, match="'pages' is unknown; the stages are book, page; did you mean 'page'"):
        call(BOOK, PAGE, names=("book", "pages"))
    assert not (tmp_path / "run").exists()


def test_a_stage_without_anything_to_do_is_skipped(call, tmp_path):
    idle = dataclasses.replace(BOOK, skips=lambda run: "config.book.size is 0")
    assert "book: skipped, config.book.size is 0" in call(idle, NOTE)
    assert not (tmp_path / "run" / "book").exists()
    with pytest.raises(InputError, match=r"'page' needs 'book', which does not run: config\.book\.size is 0"):
        call(idle, PAGE)


def test_a_changed_input_file_is_shown_with_its_size_and_date(call, tmp_path):
    """Four bytes, changed at the beginning of 2024 in this machine's time."""
    text = tmp_path / "book.txt"
    book = dataclasses.replace(
        BOOK, inputs=lambda run: {"text": files.hash_file(text)}, places=lambda run: {"text": [str(text)]}
    )
    text.write_text("one")
    call(book)
    text.write_text("four")
    moment = datetime.datetime(2024, 1, 1).timestamp()
    os.utime(text, (moment, moment))
    with pytest.raises(InputError, match="put that back, use another --workdir, or --fresh to start") as caught:
        call(book)
    shown = f"another input (input 'text' has other content since: {text} (4 bytes, last changed 2024-01-01 00:00))"
    assert shown in str(caught.value)
    call(book, fresh=True)


def test_an_earlier_stage_that_was_made_anew(call):
    call(BOOK, PAGE)
    other = dataclasses.replace(BOOK, inputs=lambda run: {"text": "2"})
    with pytest.raises(InputError, match="input 'text' was not read before"):
        call(other, PAGE)
    call(other, PAGE, names=("book",), fresh=True)
    with pytest.raises(InputError, match=r"stage 'page' .*\(its stage 'book' has another result since"):
        call(other, PAGE)


def test_a_stage_that_an_earlier_version_read_is_no_change(call):
    """As the conversations of a file, which once needed the personas."""
    call(BOOK, PAGE)
    with pytest.raises(InputError, match="input 'book' is no longer read"):
        call(BOOK, dataclasses.replace(PAGE, needs=()))
    alone = dataclasses.replace(PAGE, needs=(), dropped=("book",))
    assert "page: finished before, skipped" in call(BOOK, alone, names=("page",))
