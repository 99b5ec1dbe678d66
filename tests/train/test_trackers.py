"""Trackers show what `metrics.jsonl` has; wandb is tested with the real package, offline, where it is installed:
`uv run --with wandb pytest tests/train/test_trackers.py`."""

import dataclasses
import json
import struct
import sys

import pytest

from aloe_jax.errors import InputError
from aloe_jax.train.metrics_log import MetricsLog, read_metrics
from aloe_jax.train.settings import LoggingSettings
from aloe_jax.train.trackers import TRACKERS, check_trackers, open_trackers

WANDB = LoggingSettings(wandb="tried")


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_package_is_named_before_anything_runs(name, monkeypatch):
    monkeypatch.setitem(sys.modules, TRACKERS[name].package, None)
    check_trackers(LoggingSettings())
    wanted = dataclasses.replace(LoggingSettings(), **{name: "project"})
    with pytest.raises(InputError, match=rf"config.logging.{name}: the package .* is missing; .*aloe_jax\[{name}\]"):
        check_trackers(wanted)


@pytest.fixture
def wandb(monkeypatch, tmp_path):
    """The package, offline and with its own files in the test's folder."""
    module = pytest.importorskip("wandb")
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "own"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    module.teardown()
    yield module
    module.teardown()


BLOCK = 32_768  # bytes of wandb's file, a log of LevelDB behind a header of seven bytes


def messages(data):
    """The messages of a `.wandb` file: chunks of a checksum, a length and a type, where 1 is a whole message and 2, 3
    and 4 are the first, a middle and the last part of one. No chunk header crosses a block's end."""
    place, parts = 7, b""
    while place + 7 <= len(data):
        if BLOCK - place % BLOCK < 7:
            place += BLOCK - place % BLOCK
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield parts
            parts = b""


def stored(folder):
    """(ids of the runs, figures by step) of the runs in a folder, in the order of their names."""
    from wandb.proto.wandb_internal_pb2 import Record

    ids, found = [], {}
    for path in sorted(folder.glob("wandb/part*/*.wandb")):
        for record in map(Record.FromString, messages(path.read_bytes())):
            if record.HasField("run"):
                ids.append(record.run.run_id)
            if record.HasField("history"):
                row = {each.key or each.nested_key[0]: json.loads(each.value_json) for each in record.history.item}
                found.setdefault(row["step"], {}).update(row)
    return ids, found


def aside(folder, name):
    """Rename the folder of the run that has ended: wandb names it by the second."""
    (path,) = folder.glob("wandb/offline-run-*")
    path.rename(path.with_name(name))


def test_wandb_goes_on_with_the_same_run(wandb, tmp_path):
    """Steps 2 and 3 are written before an interruption after step 1, then computed again; NaN is shown nowhere."""
    folder = tmp_path / "run" / "sft"
    for start, steps in ((0, (1, 2, 3)), (1, (2, 3, 4))):
        with MetricsLog(folder / "metrics.jsonl", start, open_trackers(WANDB, folder, start)) as log:
            for step in steps:
                log.append({"step": step, "loss": 1 / step, "accuracy": float("nan")})
        aside(folder, f"part{start}")
    with MetricsLog(folder / "metrics.jsonl", 4, open_trackers(WANDB, folder, 4)) as log:
        log.amend({"held_out_loss": 0.5})
    aside(folder, "part4")
    wandb.teardown()  # waits for the last file
    ids, found = stored(folder)
    assert ids == ids[:1] * 3, sorted(folder.rglob("*"))
    lines = {line["step"]: line for line in read_metrics(folder / "metrics.jsonl")}
    assert lines.keys() == found.keys() == {1, 2, 3, 4}
    for step, line in lines.items():
        shown = {name: value for name, value in found[step].items() if not name.startswith("_")}
        assert shown == {name: value for name, value in line.items() if value is not None}


def test_wandb_without_a_key_is_refused_without_asking(wandb, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("NETRC", str(tmp_path / "no_netrc"))
    wandb.teardown()
    with pytest.raises(InputError, match=r"config.logging.wandb: .*run `wandb login`, set WANDB_MODE=offline, or"):
        open_trackers(WANDB, tmp_path, 0)
