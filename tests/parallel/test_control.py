"""The control connection of three processes, here three objects in one: messages, failures, and who may connect."""

import contextlib
import queue
import socket
import struct
import threading

import ml_dtypes
import numpy as np
import pytest

from aloe_jax.errors import InputError
from aloe_jax.parallel import frames
from aloe_jax.parallel.control import Control, Failure, OtherProcessError
from aloe_jax.parallel.joining import Invitation, Listener, join

SECONDS = 20  # for what takes milliseconds
COUNT = 3


@pytest.fixture
def sockets():
    """(the sockets of process 0 by the number at the other end, those of the others by their own number)."""
    listener, joined = Listener("localhost", 0, COUNT), {}

    def connect(number):
        joined[number] = join("localhost", listener.invitation, number, SECONDS)

    others = [threading.Thread(target=connect, args=(number,)) for number in range(1, COUNT)]
    for thread in others:
        thread.start()
    accepted = listener.accept(SECONDS)
    for thread in others:
        thread.join()
    with contextlib.ExitStack() as stack:
        for one in (*joined.values(), *accepted.values()):
            stack.enter_context(one)
        yield accepted, joined


@pytest.fixture
def connected(sockets):
    """(controls by number, what each calls after a failure)."""
    calls = [queue.SimpleQueue() for _ in range(COUNT)]
    return [control(number, sockets, calls[number]) for number in range(COUNT)], calls


def control(number, sockets, calls):
    return Control(number, {0: sockets[1][number]} if number else sockets[0], calls.put)


def ends(controls):
    return [control.failure(SECONDS) for control in controls]


def test_every_process_receives_the_messages_in_order(connected):
    (first, *others), _ = connected
    arrays = [
        np.arange(12, dtype=np.int32).reshape(3, 4)[:, ::2],
        np.float32(0.5).reshape(()),
        np.array([1.0, -2.5], ml_dtypes.bfloat16),
        np.zeros((0, 7), np.uint8),
        np.array([True, False]),
        np.array([1, 2], ">i8"),
    ]
    long = np.random.default_rng(0).bytes(3_000_000)  # more than the buffers of a connection hold

    def send():
        first.send(arrays)
        first.send(b"\x01")
        first.send(long)

    sending = threading.Thread(target=send)
    sending.start()
    for control in others:
        found = control.receive()
        assert [array.dtype.name for array in found] == [array.dtype.name for array in arrays]
        for one, array in zip(found, arrays, strict=True):
            np.testing.assert_array_equal(one, array.astype(one.dtype), strict=True)
        assert control.receive() == b"\x01"
        assert control.receive() == long
    sending.join()


def test_what_is_no_message():
    for message in ([np.array(["text"])], [np.array([None])], [np.zeros(1, "f4,i4")]):
        with pytest.raises(ValueError, match="in a message; send numbers"):
            frames.encode("message", message)
    with pytest.raises(ValueError, match="send it in parts"):
        frames.encode("message", [np.broadcast_to(np.int8(0), (frames.LARGEST_BODY + 1,))])


def framed(text):
    return struct.pack("<I", len(text)) + text


@pytest.mark.parametrize(
    "sent",
    [
        struct.pack("<I", frames.LARGEST_HEADER + 1),
        framed(b"no json"),
        framed(b"[]"),
        framed(b'{"kind": "message", "fields": {}, "bytes": -1}'),
        framed(b'{"kind": "message", "fields": {}, "arrays": [["object", [1]]]}'),
        framed(b'{"kind": "message", "fields": {}, "arrays": [["int8", [-1]]]}'),
        framed(b'{"kind": "message", "fields": {}, "arrays": [["float64", [1000000000, 1000000000]]]}'),
    ],
)
def test_what_is_no_frame(sent):
    """It is refused before memory is taken for it."""
    mine, other = socket.socketpair()
    with mine, other:
        other.sendall(sent)
        with pytest.raises(frames.FrameError):
            frames.read(mine)


def test_a_connection_that_ends_inside_a_frame_is_lost():
    mine, other = socket.socketpair()
    with mine:
        other.sendall(framed(b'{"kind": "message", "fields": {}, "bytes": 5}') + b"1234")
        other.close()
        with pytest.raises(ConnectionResetError):
            frames.read(mine)


@pytest.mark.parametrize("code", [1, 2, 75])
@pytest.mark.parametrize("failing", range(COUNT))
def test_all_learn_the_code_of_one_that_fails(failing, code, connected):
    controls, calls = connected
    expected = Failure(failing, code, "a reason")
    assert controls[failing].report(code, "a reason") == expected
    assert ends(controls) == [expected] * COUNT
    for number, control in enumerate(controls):
        if number != failing:
            assert calls[number].get(timeout=SECONDS) == expected
            # A later failure does not count any more.
            assert control.report(1, "a consequence") == expected
    assert calls[failing].empty()  # it ends by itself


def test_one_that_leaves_after_a_message_does_not_stop_it(connected):
    """The first process that gets the message fails at once, before the other one has it."""
    controls, calls = connected
    early, late = controls[0]._connections  # in the order in which they were accepted
    sending = threading.Thread(target=controls[0].send, args=(b"stop",))
    with controls[0]._sending[late]:
        sending.start()
        assert controls[early].receive() == b"stop"
        controls[early].report(75, "stopped")
        assert calls[0].get(timeout=SECONDS) == Failure(early, 75, "stopped")
    sending.join(SECONDS)
    assert controls[late].receive() == b"stop"
    with pytest.raises(OtherProcessError, match=f"process {early} stopped"):
        controls[0].send(b"the next one")


def test_of_failures_at_the_same_time_one_counts(connected):
    controls, _ = connected
    start, found = threading.Barrier(COUNT), {}

    def fail(number):
        start.wait()
        found[number] = controls[number].report(1 + number % 2, f"reason {number}")

    threads = [threading.Thread(target=fail, args=(number,)) for number in range(COUNT)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first = controls[0].failure(SECONDS)
    assert list(found.values()) == [first] * COUNT


@pytest.mark.parametrize("lost", [1, 2])
def test_a_closed_connection_is_a_lost_process(lost, sockets, connected):
    controls, _ = connected
    sockets[1][lost].shutdown(socket.SHUT_RDWR)  # as the system does for a process that was killed
    left = [control for number, control in enumerate(controls) if number != lost]
    assert ends(left) == [Failure(lost, 75, lost=True)] * 2
    with pytest.raises(OtherProcessError, match=f"went away: process {lost} closed its connection") as caught:
        controls[0].send(b"")
    assert caught.value.exit_code == 75


def test_a_lost_first_process_ends_a_wait(sockets):
    waiting, failing = (control(number, sockets, queue.SimpleQueue()) for number in (1, 2))
    raised = queue.SimpleQueue()

    def wait():
        try:
            waiting.receive()
        except OtherProcessError as error:
            raised.put(error)

    threading.Thread(target=wait, daemon=True).start()
    for one in sockets[0].values():
        one.close()
    error = raised.get(timeout=SECONDS)
    assert (error.failure, error.exit_code) == (Failure(0, 75, lost=True), 75)
    with pytest.raises(OtherProcessError):
        waiting.receive()
    # Nobody is left to compare the reasons.
    assert failing.report(2, "own") == Failure(2, 2, "own")


def test_the_end_of_the_work_is_no_failure(sockets, connected):
    controls, _ = connected
    for control in controls[1:]:
        control.end()
    for one in sockets[1].values():
        one.shutdown(socket.SHUT_RDWR)
    controls[0].wait_for_others(SECONDS)
    assert controls[0].failure(0) is None


def test_only_who_has_the_token_connects():
    listener = Listener("localhost", 0, 2)
    assert listener._listening.getsockname()[0] in ("127.0.0.1", "::1")
    port, token = listener.invitation.port, listener.invitation.token
    accepted = {}
    accepting = threading.Thread(target=lambda: accepted.update(listener.accept(SECONDS)))
    accepting.start()
    for invitation, number in ((Invitation(port, "0" * 64, 2), 1), (Invitation(port, token, 2), 2)):
        with pytest.raises(InputError, match=f"process 0 cannot be reached on port {port} of localhost"):
            join("localhost", invitation, number, SECONDS)
    with socket.create_connection(("localhost", port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert stranger.recv(1) == b""
    with join("localhost", listener.invitation, 1, SECONDS):
        accepting.join()
        assert list(accepted) == [1]
        with pytest.raises(InputError, match="cannot be reached"):  # nobody can from now on
            join("localhost", listener.invitation, 1, SECONDS)
        accepted[1].close()


def test_one_that_does_not_connect_is_named():
    listener = Listener("127.0.0.1", 0, 3)
    with pytest.raises(InputError, match=r"process 1, 2 did not connect .*config\.hosts\.control_port"):
        listener.accept(0.1)


def test_a_port_in_use_is_replaced():
    first = Listener("127.0.0.1", 0, 2)
    second = Listener("127.0.0.1", first.invitation.port, 2)
    assert second.invitation.port not in (0, first.invitation.port)
    for listener in (first, second):
        listener._listening.close()
