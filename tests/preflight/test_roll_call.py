"""The hosts meet: threads of one process stand for hosts, over real connections."""

import json
import socket
import threading
import time

import pytest

from aloe_jax.errors import InputError
from aloe_jax.parallel import frames
from aloe_jax.parallel.meeting import Group
from aloe_jax.preflight import comparison
from aloe_jax.preflight import roll_call as module
from aloe_jax.preflight.roll_call import Report, roll_call
from helpers.aloe_command import free_port
from helpers.waiting import until

SAME = Report(name="host", failures=(), versions={"jax": "1"}, environment={})


def with_(**fields):
    return SAME.model_copy(update=fields)


def judge(reports, ahead):
    return [*comparison.reported(reports), *failures(comparison.compared(reports, ahead))]


def failures(rows):
    return [(row.name, text) for row in rows for text in row.failures]


def meet(groups, reports=None, seconds=10.0):
    """Each host's failures or error, and what process 0 said."""
    said, found = [], {}

    def take_part(group, report):
        try:
            found[group.number] = roll_call(group, report, judge, seconds, said.append)
        except InputError as error:
            found[group.number] = str(error)

    given = reports or [SAME] * len(groups)
    threads = [threading.Thread(target=take_part, args=pair) for pair in zip(groups, given, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found, said


def groups(port, count, numbers=None):
    return [Group("localhost", port, count, number) for number in numbers or range(count)]


def test_all_come_and_the_port_is_free_again():
    port = free_port()
    found, said = meet(groups(port, 3, (2, 0, 1)))
    assert found == {0: [], 1: [], 2: []}
    assert said == ["1 of 3 hosts", "2 of 3 hosts", "3 of 3 hosts"]
    socket.create_server(("", port)).close()


def test_every_host_gets_all_failures():
    port = free_port()
    reports = [with_(failures=("one",)), with_(versions={"jax": "2"})]
    found, _ = meet(groups(port, 2), reports)
    assert found[0] == found[1]
    assert found[0] == [
        ("process 0", "host: one"),
        ("same packages", "jax is 2 on process 1 and 1 on process 0; `uv pip install 'jax==1'` there"),
    ]


def test_a_host_that_does_not_come():
    port = free_port()
    found, said = meet(groups(port, 3, (0, 1)), seconds=0.5)
    assert found[0].startswith("2 of 3 hosts within 0.5 seconds, without process 2; start the same command")
    assert f"--allow=tcp:{port}" in found[0]
    assert said[-1] == "2 of 3 hosts"


def test_process_0_that_does_not_come():
    port = free_port()
    found, _ = meet(groups(port, 2, (1,)), seconds=0.3)
    assert found[1].startswith(f"process 0 did not answer on port {port} of localhost within 0.3 seconds (")
    assert "firewall-rules create" in found[1]


def test_a_port_in_use():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        found, _ = meet(groups(port, 2, (0,)), seconds=0.3)
    assert found[0].startswith(f"port {port}, where the hosts meet, is not free")
    assert "`ss -ltnp" in found[0]


def test_unequal_numbers_of_processes():
    port = free_port()
    found, _ = meet([Group("localhost", port, 2, 0), Group("localhost", port, 3, 1)])
    assert found[0].startswith("process 1 was started as one of 3, process 0 as one of 2")
    assert found[1] == [("hosts", found[0])]


def test_two_processes_of_one_number():
    port = free_port()
    found, _ = meet(groups(port, 3, (0, 1, 1)))
    assert found[0].startswith("two processes have number 1")


def test_a_process_that_leaves_may_come_back():
    """Its first report counts no more: all three are complete only with the second one."""
    port, said, found = free_port(), [], {}

    def take_part(number):
        found[number] = roll_call(Group("127.0.0.1", port, 3, number), SAME, judge, 60.0, said.append)

    threads = [threading.Thread(target=take_part, args=(0,))]
    threads[0].start()
    assert until(lambda: said == ["1 of 3 hosts"])
    with socket.create_connection(("127.0.0.1", port)) as leaving:
        module._receive(leaving, "question")
        report = {"number": 1, "processes": 3, "time": time.time(), "report": SAME.model_dump()}
        module._send(leaving, "report", report)
        assert until(lambda: said[-1] == "2 of 3 hosts")
    for number in (1, 2):
        threads.append(threading.Thread(target=take_part, args=(number,)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert found == {0: [], 1: [], 2: []}
    assert said == ["1 of 3 hosts", "2 of 3 hosts", "2 of 3 hosts", "3 of 3 hosts"]


UNREADABLE = json.dumps({"number": 1, "processes": 2, "time": 0, "report": {"name": "host"}}).encode()


@pytest.mark.parametrize("said", [b"GET / HTTP/1.0\r\n\r\n", b"".join(frames.encode("report", UNREADABLE))])
def test_a_stranger_is_ignored(said):
    port = free_port()

    def knock():
        for _ in range(100):
            try:
                with socket.create_connection(("localhost", port), timeout=1) as connection:
                    return connection.sendall(said)
            except OSError:
                continue
        return None

    stranger = threading.Thread(target=knock)
    stranger.start()
    found, _ = meet(groups(port, 2))
    stranger.join()
    assert found == {0: [], 1: []}


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [
        ({"MEGASCALE_NUM_SLICES": "2"}, {}, "MEGASCALE_NUM_SLICES is '' on process 1 and '2' on process 0"),
        ({"LIBTPU_INIT_ARGS": "--a"}, {"LIBTPU_INIT_ARGS": "--b"}, "LIBTPU_INIT_ARGS is '--b' on process 1"),
        ({"TPU_WORKER_ID": "0"}, {"TPU_WORKER_ID": "0"}, "TPU_WORKER_ID is 0 on processes 0 and 1"),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, {"TPU_WORKER_HOSTNAMES": "c,d"}, "TPU_WORKER_HOSTNAMES is 'c,d'"),
        ({"TPU_WORKER_ID": "0"}, {"TPU_WORKER_ID": "1"}, ""),
        (
            {"TPU_WORKER_ID": "0", "TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_SLICE_ID": "0"},
            {"TPU_WORKER_ID": "0", "TPU_WORKER_HOSTNAMES": "b", "MEGASCALE_SLICE_ID": "1"},
            "",
        ),
    ],
)
def test_variables_that_differ(here, there, expected):
    reports = {0: with_(environment=here), 1: with_(environment=there)}
    found = failures(comparison.compared(reports, {0: 0.0, 1: 0.0}))
    assert expected in " ".join(text for _, text in found)
    assert {name for name, _ in found} == ({"same variables"} if expected else set())


def test_versions_that_differ():
    """Each with the command that fits: a package, Python, our own code, a package that is missing on one host."""
    here = {"python": "3.12.1", "jax": "0.12", "aloe_jax": "1", "libtpu": "0.0.42"}
    there = {"python": "3.11.7", "jax": "0.10", "aloe_jax": "2"}
    rows = comparison.compared({0: with_(versions=here), 1: with_(versions=there)}, {0: 0.0, 1: 0.0})
    assert [text for _, text in failures(rows)] == [
        "aloe_jax is 2 on process 1 and 1 on process 0; bring both to the same commit, and `uv sync` there",
        "jax is 0.10 on process 1 and 0.12 on process 0; `uv pip install 'jax==0.12'` there",
        "libtpu is not installed on process 1 and 0.0.42 on process 0; `uv pip install 'libtpu==0.0.42'` there",
        "python is 3.11.7 on process 1 and 3.12.1 on process 0; `uv venv --python=3.12.1 && uv sync` there",
    ]


def test_clocks_that_differ():
    ((name, found),) = failures(comparison.compared({0: SAME, 1: SAME, 2: SAME}, {0: 0.0, 1: -3.0, 2: 61.0}))
    assert name == "clocks"
    assert found.startswith("the clock of process 2 is 61 seconds ahead of that of process 0")
    assert "`sudo systemctl restart chrony`" in found


def test_a_clock_is_measured(monkeypatch):
    """Half a minute fast on one host: what is measured is at most that, less the time that the answer took."""
    port, measured = free_port(), {}

    def judged(reports, ahead):
        measured.update(ahead)
        return []

    class Fast:
        monotonic, sleep = staticmethod(time.monotonic), staticmethod(time.sleep)

        @staticmethod
        def time():
            return time.time() + 30 * (threading.current_thread().name == "host 1")

    monkeypatch.setattr(module, "time", Fast)
    threads = [
        threading.Thread(target=roll_call, args=(group, SAME, judged, 20.0, str), name=f"host {group.number}")
        for group in groups(port, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 20 < measured[1] <= 30


def test_who_is_missing_is_said_while_the_others_wait(monkeypatch):
    monkeypatch.setattr(module, "REMIND_SECONDS", 0.1)
    port = free_port()
    found, said = meet(groups(port, 2, (0,)), seconds=0.5)
    assert said[:2] == ["1 of 2 hosts", found[0].replace("within 0.5", "after 0.1")]
    assert said[2].startswith("1 of 2 hosts after 0.2 seconds, without process 1")
    _, said = meet(groups(port, 2, (1,)), seconds=0.7)
    assert said[0].startswith(f"process 0 did not answer on port {port} of localhost for 0 seconds (")


def test_only_the_named_address_is_listened_on():
    """Another address of this machine's loopback refuses, and its port is free for others meanwhile."""
    port, said = free_port(), []
    first = threading.Thread(target=roll_call, args=(Group("127.0.0.1", port, 2, 0), SAME, judge, 60.0, said.append))
    first.start()
    assert until(lambda: said == ["1 of 2 hosts"])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=1)
    socket.create_server(("127.0.0.2", port)).close()
    assert roll_call(Group("127.0.0.1", port, 2, 1), SAME, judge, 60.0, str) == []
    first.join()
