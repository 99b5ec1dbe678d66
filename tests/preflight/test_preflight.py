"""All checks together: the table of one host, and several hosts in threads up to their devices."""

import threading

import pytest

from aloe_jax.cli.main import main
from aloe_jax.errors import InputError
from aloe_jax.parallel.meeting import HostSettings
from aloe_jax.preflight import preflight as module
from aloe_jax.preflight.checks import CHECKS
from aloe_jax.preflight.host import Host
from aloe_jax.preflight.rows import NOTHING, WAITING, Row
from helpers.aloe_command import free_port
from helpers.hosts_of_tests import changed, write

ROWS = [*(check.name for check in CHECKS), "hosts", "devices", "collective", "all"]


def start(host, where="", **settings):
    """The rows and the error of a preflight."""
    rows, error = [], ""
    try:
        module.preflight(host, where, HostSettings(**settings), rows.append)
    except InputError as found:
        error = str(found)
    return rows, error


def test_a_laptop(tmp_path, monkeypatch, capsys):
    """A row per check in a table of two columns and a text, which fits 80 columns; nothing is left behind."""
    monkeypatch.chdir(tmp_path)
    assert main(["preflight", "--workdir=run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:16].strip() for line in lines] == ROWS
    assert {line[16:25].strip() for line in lines} == {"ok", "-"}
    assert all(line[25:].strip() for line in lines)
    assert max(map(len, (line for line in lines if "compiled" not in line))) <= 80  # its path is as long as it is
    assert not list(tmp_path.iterdir())


def test_every_check_has_a_row_that_says_what_was_found(tpu_host, tmp_path):
    host = changed(tpu_host, workdir=str(tmp_path), cache_dir=str(tmp_path))
    rows = [check.row(host) for check in CHECKS]
    found = {row.name: row.found for row in rows if row.mark != NOTHING and not row.failures}
    assert set(ROWS[:-4]) - set(found) == {"variables"}  # none is set
    assert found["TPUs"] == "/dev/vfio/0, /dev/vfio/1"


def test_a_failure_keeps_the_devices_untouched(tpu_host, monkeypatch):
    """After every row, so that all failures are seen at once."""
    write(tpu_host.root / "sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]")
    rows, error = start(changed(tpu_host, environment={"JAX_PLATFORMS": "cpu"}))
    assert [row.name for row in rows if row.failures] == ["TPUs", "huge pages"]
    assert rows[-1] == Row("devices", "not touched, as a check before them failed", mark=NOTHING)
    assert error == "preflight: 2 checks failed; fix what is listed above, and start it again"


def test_another_slice(tmp_path):
    rows, error = start(Host(root=tmp_path, environment={}), topology="v6e:2x2")
    assert rows[-1].failures[0].startswith("v6e:2x2 has 4 devices (TPU v6 lite), found 8 x cpu")
    assert error == "preflight: a check failed; fix what is listed above, and start it again"


def test_bad_options(capsys):
    assert main(["preflight", "--topology=v9"]) == 2
    assert "--topology: 'v9' is unknown" in capsys.readouterr().err
    assert main(["preflight", "--wait=0"]) == 2
    assert "--wait: 0 must be at least 1 second" in capsys.readouterr().err


def before_run(hosts, **settings):
    """What two processes of a run show and raise before they connect, by number."""
    port, shown, raised = free_port(), {0: [], 1: []}, {}

    def take_part(number):
        try:
            where = f"localhost:{port},2,{number}"
            module.before_run(where, HostSettings(**settings), hosts[number], True, shown[number].append)
        except InputError as error:
            raised[number] = str(error)

    threads = [threading.Thread(target=take_part, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return shown, raised


@pytest.fixture
def good(tmp_path):
    return Host(root=tmp_path / "laptop", environment={})


def test_the_start_of_a_run(good):
    """Nothing but the count, and on process 0 alone."""
    shown, raised = before_run([good, good], meet_seconds=20)
    assert shown == {0: [Row("hosts", f"{count} of 2 hosts", mark=WAITING) for count in (1, 2)], 1: []}
    assert raised == {}


def test_a_run_is_refused_on_all_hosts(good, tpu_host):
    """The second host's TPUs are hidden: both end, with its sentence."""
    hidden = changed(tpu_host, environment={"JAX_PLATFORMS": "cpu"})
    _, raised = before_run([good, hidden], meet_seconds=20)
    assert raised[0] == raised[1]
    assert raised[0].startswith("preflight: process 1: ")
    assert "JAX_PLATFORMS=cpu hides this host's TPUs" in raised[0]


def test_what_is_wrong_here_is_shown_if_the_others_do_not_come(tpu_host):
    hidden, rows = changed(tpu_host, environment={"JAX_PLATFORMS": "cpu"}), []
    where = f"localhost:{free_port()},2,0"
    with pytest.raises(InputError, match=r"^1 of 2 hosts within 1 seconds, without process 1"):
        module.before_run(where, HostSettings(meet_seconds=1), hidden, True, rows.append)
    assert [row.name for row in rows] == ["hosts", "TPUs"]


def test_a_run_goes_on_with_a_warning(good, tpu_host):
    """Huge pages only slow a run down; with config.hosts.preflight=warn nothing stops it."""
    write(tpu_host.root / "sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]")
    shown, raised = before_run([good, tpu_host], meet_seconds=20)
    assert raised == {}
    (row,) = shown[1]
    assert row.text().startswith("huge pages      warning  transparent huge pages are off")
    hidden = changed(tpu_host, environment={"JAX_PLATFORMS": "cpu"})
    shown, raised = before_run([good, hidden], meet_seconds=20, preflight="warn")
    assert raised == {}
    assert [row.name for row in shown[1]] == ["TPUs", "huge pages"]


def test_what_is_written_in_a_dry_run(good, tmp_path):
    """Nothing: a run directory that cannot be used is no failure there."""
    write(tmp_path / "file")
    host, where, rows = changed(good, workdir=str(tmp_path / "file/run")), "localhost:1,1,0", []
    module.before_run(where, HostSettings(), host, False, rows.append)
    with pytest.raises(InputError, match="preflight: run directory: --workdir: "):
        module.before_run(where, HostSettings(), host, True, rows.append)
    assert rows == []


def test_devices_of_a_run(tpu_host, good):
    module.after_connect(HostSettings(), good, print)
    with pytest.raises(InputError, match=r"preflight: devices: this host has TPUs .* and JAX computes on cpu"):
        module.after_connect(HostSettings(), tpu_host, print)


def test_a_row_in_a_terminal_and_in_a_pipe():
    """What was found is wrapped in a terminal; a failure never is, so that its command can be copied."""
    long = Row("packages", "jax 1, jaxlib 2, libtpu 3 fit")
    assert long.text() == "packages        ok       jax 1, jaxlib 2, libtpu 3 fit"
    assert long.text(40) == "packages        ok       jax 1, jaxlib\n" + " " * 25 + "2, libtpu 3 fit"
    failed = Row("/tmp", failures=("full; `a command that is long`", "two"))
    assert failed.text(20) == "/tmp            failed   full; `a command that is long`\n/tmp            failed   two"
