"""The run directory with small stages in plain Python: skipped, continued, refused and started over."""

import contextlib
import dataclasses
import fcntl
import io
import json
import os
from pathlib import Path

import pytest
from etils import epath
from rich.console import Console

from aloe_jax import files
from aloe_jax.errors import InputError, ResumableError
from aloe_jax.run.manifest import read_manifest, versions
from aloe_jax.run.progress import Progress
from aloe_jax.run.stage import Run, Stage, run_stages
from aloe_jax.settings import read, section, setting

NUMBERS, TOTAL = "numbers.txt", "total.txt"


@dataclasses.dataclass(frozen=True)
class Numbers:
    count: int = setting(3, "how many")


@dataclasses.dataclass(frozen=True)
class Rows:
    size: int = setting(1, "of each", decides=False)


@dataclasses.dataclass(frozen=True)
class PacedNumbers(Numbers):
    pace: int = setting(1, "how fast", decides=False)
    rows: Rows = section(Rows)


@dataclasses.dataclass(frozen=True)
class RowsOfPages(Rows):
    pages: int = dataclasses.field(kw_only=True)  # without a default for earlier calls


@dataclasses.dataclass(frozen=True)
class NumbersOfPages(PacedNumbers):
    rows: RowsOfPages = section(RowsOfPages)


@dataclasses.dataclass(frozen=True)
class Total:
    scale: int = setting(1, "what the sum is multiplied by", minimum=1)


@dataclasses.dataclass(frozen=True)
class Notes:
    text: str = setting("hello", "what is noted")


class Pipeline:
    """`numbers` writes the numbers 1 to `count`, one per line; `total` sums them; `notes` reads nothing."""

    def __init__(self, workdir):
        self.workdir = Path(workdir)
        self.config = {"seed": 7, "numbers": {"count": 3}, "total": {"scale": 1}, "notes": {"text": "hello"}}
        self.kinds = {"numbers": Numbers, "total": Total, "notes": Notes}
        self.outside = "first"  # an input that is not in the config
        self.stop_at = None  # the first number that an interrupted `numbers` does not write
        self.written = []
        self.stages = [
            Stage("numbers", (), ("numbers", "seed"), self._numbers, lambda run: {"book": self.outside}, (NUMBERS,)),
            Stage("total", ("numbers",), ("total",), self._total, outputs=(TOTAL,)),
            Stage("notes", (), ("notes",), self._notes),
        ]

    def run(self, *selected, fresh=False):
        """Run stages (default: all); returns the text of the display."""
        display = io.StringIO()
        progress = Progress(Console(file=display, width=200))
        names = selected or [stage.name for stage in self.stages]
        settings = {
            name: read(self.kinds[name], value, f"config.{name}") if name in self.kinds else value
            for name, value in self.config.items()
        }
        run_stages(self.stages, Run(epath.Path(self.workdir), settings, progress), names, fresh)
        return display.getvalue()

    def manifest(self, stage):
        return json.loads((self.workdir / stage / "manifest.json").read_text())

    def lines(self):
        return (self.workdir / "numbers" / NUMBERS).read_text().split()

    def _numbers(self, run):
        path = run.directory("numbers") / NUMBERS
        done = len(path.read_text().split()) if path.exists() else 0
        for number in range(done + 1, run.section("numbers", Numbers).count + 1):
            if number == self.stop_at:
                raise KeyboardInterrupt
            files.append_line(path, str(number))
            self.written.append(number)
        return {"numbers": number}

    def _total(self, run):
        total = sum(map(int, self.lines())) * run.section("total", Total).scale
        files.write_text(run.directory("total") / TOTAL, str(total))
        return {"total": total}

    def _notes(self, run):
        return {"characters": len(run.section("notes", Notes).text)}


@pytest.fixture
def pipeline(tmp_path):
    return Pipeline(tmp_path / "run")


def contents(folder):
    """Every file of a folder with its bytes and modification time."""
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(Path(folder).rglob("*")) if path.is_file()
    }


def test_a_manifest_says_what_the_stage_was_made_of(pipeline):
    pipeline.run()
    numbers, total = pipeline.manifest("numbers"), pipeline.manifest("total")
    assert numbers["inputs"] == {"book": "first"}
    assert numbers["outputs"] == {NUMBERS: files.hash_file(pipeline.workdir / "numbers" / NUMBERS)}
    assert numbers["config"] == {"numbers": {"count": 3}, "seed": 7}
    assert (numbers["stage"], numbers["status"], numbers["seed"]) == ("numbers", "finished", 7)
    assert (numbers["counts"], total["counts"]) == ({"numbers": 3}, {"total": 6})
    assert numbers["seconds"] >= 0
    assert numbers["versions"] == versions()
    assert {"python", "jax", "aloe_jax"} <= set(versions())
    assert total["inputs"] == {"numbers": read_manifest(pipeline.workdir / "numbers").identity}
    decides = {key: numbers[key] for key in ("inputs", "config", "outputs")}
    assert total["inputs"] == {"numbers": files.sha256(files.canonical(decides))}
    assert json.loads((pipeline.workdir / "config.json").read_text()) == pipeline.config


def test_finished_stages_are_skipped_and_left_alone(pipeline):
    pipeline.run()
    before = contents(pipeline.workdir / "numbers") | contents(pipeline.workdir / "total")
    display = pipeline.run()
    assert contents(pipeline.workdir / "numbers") | contents(pipeline.workdir / "total") == before
    assert display.count("finished before, skipped") == 3


def test_an_interrupted_stage_continues(pipeline):
    pipeline.stop_at = 3
    with pytest.raises(KeyboardInterrupt):
        pipeline.run()
    assert pipeline.manifest("numbers")["status"] == "running"
    assert not (pipeline.workdir / "total").exists()
    pipeline.stop_at = None
    pipeline.run()
    assert pipeline.written == [1, 2, 3]  # none twice
    assert pipeline.manifest("numbers")["status"] == "finished"
    assert pipeline.manifest("total")["counts"] == {"total": 6}


@pytest.mark.parametrize(("paid", "said"), [((), "starting over"), ((NUMBERS,), "continuing")])
def test_the_next_call_says_what_becomes_of_an_interrupted_stage(pipeline, paid, said):
    pipeline.stages[0] = dataclasses.replace(pipeline.stages[0], paid=paid)
    pipeline.stop_at = 2
    with pytest.raises(KeyboardInterrupt):
        pipeline.run("numbers")
    pipeline.stop_at = None
    assert pipeline.run("numbers").splitlines()[1] == f"numbers: was interrupted, {said}"
    assert "interrupted" not in pipeline.run("numbers")


def test_seconds_add_up_over_interruptions(pipeline):
    pipeline.stop_at = 2
    with pytest.raises(KeyboardInterrupt):
        pipeline.run()
    path = pipeline.workdir / "numbers/manifest.json"
    path.write_text(json.dumps(pipeline.manifest("numbers") | {"seconds": 100.0}))
    pipeline.stop_at = None
    pipeline.run()
    assert pipeline.manifest("numbers")["seconds"] >= 100


def test_a_changed_config_is_refused_with_the_difference_and_nothing_changes(pipeline):
    pipeline.run()
    before = contents(pipeline.workdir)
    pipeline.config["numbers"] = {"count": 5}
    with pytest.raises(InputError, match=r"stage 'numbers' .* \(numbers\.count: 3 -> 5\); .*--workdir, or --fresh"):
        pipeline.run()
    assert contents(pipeline.workdir) == before


def test_a_change_of_a_late_stage_is_refused_before_an_early_one_works(pipeline):
    pipeline.run()
    (pipeline.workdir / "numbers/manifest.json").unlink()
    before = contents(pipeline.workdir)
    pipeline.config["total"] = {"scale": 2}
    with pytest.raises(InputError, match=r"total\.scale: 1 -> 2"):
        pipeline.run()
    assert contents(pipeline.workdir) == before


def test_an_interrupted_stage_refuses_a_changed_config_too(pipeline):
    pipeline.stages[0] = dataclasses.replace(pipeline.stages[0], paid=(NUMBERS,))
    pipeline.stop_at = 2
    with pytest.raises(KeyboardInterrupt):
        pipeline.run()
    pipeline.config["seed"] = 8
    with pytest.raises(InputError, match="seed: 7 -> 8"):
        pipeline.run()
    assert pipeline.lines() == ["1"]


def test_a_changed_input_is_refused(pipeline):
    pipeline.run()
    pipeline.outside = "second"
    with pytest.raises(InputError, match=r"another input \(input 'book' has other content since"):
        pipeline.run()


def test_fresh_starts_over_what_changed_and_what_reads_it(pipeline):
    pipeline.run()
    notes = contents(pipeline.workdir / "notes")
    pipeline.config["numbers"] = {"count": 2}
    display = pipeline.run(fresh=True)
    assert pipeline.lines() == ["1", "2"]
    assert pipeline.manifest("total")["counts"] == {"total": 3}
    assert contents(pipeline.workdir / "notes") == notes
    assert display.count("skipped") == 1


def test_fresh_without_a_change_skips(pipeline):
    pipeline.run()
    assert pipeline.run(fresh=True).count("skipped") == 3


def test_a_kill_while_the_old_files_go_leaves_none_of_them_to_the_new_setting(pipeline):
    """Such a kill leaves a discarded manifest and some of the old files."""
    pipeline.run("numbers")
    path = pipeline.workdir / "numbers/manifest.json"
    path.write_text(json.dumps(pipeline.manifest("numbers") | {"status": "discarded"}))
    pipeline.run("numbers")
    assert pipeline.written == [1, 2, 3, 1, 2, 3]
    assert pipeline.lines() == ["1", "2", "3"]


def test_the_manifest_goes_last_when_a_stage_starts_over(pipeline, monkeypatch):
    pipeline.run("numbers")
    pipeline.config["numbers"] = {"count": 1}
    removed = []
    unlink = epath.Path("").__class__.unlink

    def watched(path, *args, **kwargs):
        removed.append((path.name, pipeline.manifest("numbers")["status"]))
        return unlink(path, *args, **kwargs)

    monkeypatch.setattr(epath.Path("").__class__, "unlink", watched)
    pipeline.run("numbers", fresh=True)
    assert removed == [(NUMBERS, "discarded")]


def test_stages_run_in_their_order_whatever_the_order_of_their_names(pipeline):
    pipeline.run("total", "numbers")
    assert pipeline.manifest("total")["counts"] == {"total": 6}


@pytest.mark.parametrize("fresh", [False, True])
def test_a_needed_stage_with_another_config_is_refused(pipeline, fresh):
    """Else config.json would contain a setting with which no file of the run was made."""
    pipeline.run()
    pipeline.config["numbers"] = {"count": 5}
    with pytest.raises(InputError, match=r"numbers\.count: 3 -> 5.*name it in --stages"):
        pipeline.run("total", fresh=fresh)
    assert json.loads((pipeline.workdir / "config.json").read_text())["numbers"] == {"count": 3}


def test_values_of_all_stages_are_checked_before_the_first_works(pipeline):
    pipeline.config["total"] = {"scale": 0}
    with pytest.raises(InputError, match=r"config\.total\.scale: 0 must be at least 1"):
        pipeline.run()
    assert pipeline.written == []


def test_a_free_setting_may_change_and_the_manifest_tells_each(pipeline):
    """At any depth of the settings class."""
    settings = {"count": 3, "pace": 1, "rows": {"size": 1}}
    pipeline.config["numbers"] = settings
    pipeline.kinds["numbers"] = PacedNumbers
    pipeline.stop_at = 2
    for pace in (1, 1, 2):  # the second call repeats the first
        pipeline.config["numbers"] = settings | {"pace": pace}
        with pytest.raises(KeyboardInterrupt):
            pipeline.run("numbers")
    pipeline.stop_at = None
    pipeline.config["numbers"] = settings | {"pace": 2, "rows": {"size": 8}}
    pipeline.run()
    manifest = pipeline.manifest("numbers")
    used = [{"numbers": {"pace": pace, "rows": {"size": size}}} for pace, size in ((1, 1), (2, 1), (2, 8))]
    assert manifest["free"] == used
    assert manifest["config"] == {"numbers": {"count": 3, "rows": {}}, "seed": 7}
    pipeline.config["numbers"] = settings
    assert pipeline.run().count("skipped") == 3
    assert pipeline.manifest("numbers") == manifest
    assert pipeline.manifest("total")["free"] == [{}]
    pipeline.kinds["numbers"] = NumbersOfPages
    pipeline.config["numbers"] = settings | {"rows": {"size": 1, "pages": 2}}
    with pytest.raises(InputError, match=r"\(numbers\.rows\.pages: null -> 2\)"):
        pipeline.run()


def test_a_failed_stage_keeps_what_it_wrote(pipeline):
    def fail(run):
        files.write_text(run.directory("notes") / "half.txt", "kept")
        raise ValueError("a defect")

    pipeline.stages[2] = Stage("notes", (), ("notes",), fail)
    with pytest.raises(ValueError, match="a defect"):
        pipeline.run()
    assert (pipeline.workdir / "notes/half.txt").read_text() == "kept"
    assert pipeline.manifest("notes")["status"] == "running"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("library", [False, True])
def test_a_full_disk_stops_a_stage_in_a_state_that_resumes(pipeline, library):
    """Even if a library writes and raises an exception of its own, as tensorstore does. That the manifest can no longer
    be written either, for which a folder in its way stands, does not hide the reason."""
    blocked = epath.Path(pipeline.workdir) / "notes/.manifest.json.partial"

    def fill(run):
        blocked.mkdir()
        with contextlib.ExitStack() as stack:
            if library:
                stack.enter_context(raised_by_a_library())
            with open("/dev/full", "w") as file:
                file.write("x")
        return {}

    @contextlib.contextmanager
    def raised_by_a_library():
        try:
            yield
        except OSError as error:
            raise ValueError(f"RESOURCE_EXHAUSTED: {error.strerror} [os_error_code='{error.errno}']") from None

    work, pipeline.stages[2] = pipeline.stages[2], Stage("notes", (), ("notes",), fill)
    with pytest.raises(ResumableError, match=r"run/notes'.*free some.*run the same command again"):
        pipeline.run()
    pipeline.stages[2] = work
    pipeline.run()
    assert pipeline.manifest("notes")["status"] == "finished"


def test_a_workdir_that_is_a_file_or_below_one_is_refused(pipeline, tmp_path):
    (tmp_path / "file").write_text("mine")
    for workdir in (tmp_path / "file", tmp_path / "file/run"):
        pipeline.workdir = workdir
        with pytest.raises(InputError, match=r"--workdir: cannot use '.*file.*' \(.+\); choose another folder"):
            pipeline.run()
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unwritable for root")
def test_an_unwritable_workdir_is_refused(pipeline, tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(InputError, match="Permission denied"):
            pipeline.run()
    finally:
        tmp_path.chmod(0o700)


def test_two_runs_do_not_work_in_one_directory(pipeline):
    pipeline.run("numbers")
    with open(pipeline.workdir / ".lock") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another `aloe run` works in"):
            pipeline.run()
    pipeline.run()
    assert pipeline.manifest("total")["status"] == "finished"


def test_a_section_that_decides_nothing_is_not_compared(tmp_path):
    """So a section that is added later, with settings that may change, leaves finished stages finished."""

    @dataclasses.dataclass(frozen=True)
    class Mesh:
        rows: Rows = section(Rows)
        slots: int = setting(8, "at a time", decides=False)

    stage = Stage("any", (), ("mesh",), lambda run: {})
    run = Run(epath.Path(tmp_path), {"seed": 1, "mesh": Mesh()}, Progress(Console(quiet=True)))
    assert stage.settings(run) == ({}, {"mesh": {"rows": {"size": 1}, "slots": 8}})
