"""The lease and the snapshot against a server that refuses writes whose condition on a generation does not hold."""

from __future__ import annotations

import threading

import pytest

from aloe_jax.bucket import lease as leases
from aloe_jax.bucket.lease import Holding, acquire, read_lease
from aloe_jax.bucket.mirror import Mirror
from aloe_jax.bucket.settings import BucketSettings
from aloe_jax.bucket.snapshot import read_snapshot
from aloe_jax.bucket.store import ConflictError, Store
from aloe_jax.errors import InputError, ResumableError
from helpers.waiting import until

NEVER = 3600.0  # seconds after which a lease expires that is not to expire


def never(sentence):
    raise AssertionError(sentence)


def take(store, who="process 1 on a", seconds=NEVER, said=None, lost=never, gone=lambda sign: False):
    """A lease whose holder is `who`; what is told is appended to `said`."""
    return acquire(store, who, f"sign of {who}", seconds, [].append if said is None else said.append, lost, gone)


def abandon(lease):
    """Stop renewing without a release, as a kill does."""
    lease._ended.set()
    lease._renewing.join()


def test_a_condition_that_does_not_hold_is_refused(store):
    first = store.write("name", b"1", 0)
    with pytest.raises(ConflictError):
        store.write("name", b"2", 0)
    second = store.write("name", b"2", first.generation)
    with pytest.raises(ConflictError):
        store.write("name", b"3", first.generation)
    assert store.read("name") == (b"2", second)


def test_of_many_that_want_it_at_once_one_gets_it(store):
    """Five threads, each with a lease that is renewed four times a second: one holds it, and the others see that it is
    renewed."""
    got, refused = [], []

    def want(number):
        try:
            got.append(take(store, f"process {number}", seconds=3.0))
        except InputError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=want, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (lease,) = got
    holder = read_lease(store)[0].who
    assert len(refused) == 4
    assert all(f"another `aloe run` works in '{store.url}' ({holder}, last sign" in sentence for sentence in refused)
    lease.release()
    assert read_lease(store)[0].released


def test_a_released_one_is_free(store):
    said = []
    first = take(store)
    first.release()
    second = take(store, "process 2 on b", said=said)
    assert second.term > first.term
    assert not said
    second.release()


def test_it_is_renewed_and_expires_by_the_servers_clock(store):
    """A holder that renews it is waited for until it is seen to live; one that was killed is taken over when the
    server's clock says so, and that is told."""
    first, said = take(store, seconds=3.0), []
    taken = read_lease(store)[1].generation
    assert until(lambda: read_lease(store)[1].generation != taken)
    with pytest.raises(InputError, match=r"process 1 on a, last sign \d+ s ago"):
        take(store, "process 2 on b", said=said)
    abandon(first)
    second = take(store, "process 2 on b", said=said)
    assert said[-1].startswith(f"'{store.url}': taken over from process 1 on a, which gave no sign for 3 s")
    second.release()


def test_one_of_a_process_that_is_gone_is_free_at_once(store):
    abandon(take(store))
    said = []
    take(store, "process 2", said=said, gone="sign of process 1 on a".__eq__).release()
    assert said == [f"'{store.url}': taken over from process 1 on a, which gave no sign for 0 s"]


def test_a_holder_that_comes_back_late_is_told_and_can_write_nothing(store, tmp_path):
    """It is stopped at its next sign of life, by `lost`; before that its snapshot is refused, and what it uploaded is
    listed nowhere and removed by the next one."""
    lost = threading.Event()
    late = take(store, seconds=4.0, lost=lambda sentence: lost.set())
    mirror = Mirror(store, late, tmp_path / "late", BucketSettings(upload_seconds=NEVER))
    mirror.restore()
    (tmp_path / "late/a.jsonl").write_text("1\n")
    mirror.commit()
    new = take(store, "process 2", gone=lambda sign: True)
    other = Mirror(store, new, tmp_path / "new", BucketSettings(upload_seconds=NEVER))
    other.restore()
    (tmp_path / "new/a.jsonl").write_text("1\n2\n")
    other.commit()
    (tmp_path / "late/a.jsonl").write_text("1\n3\n")
    with pytest.raises(ResumableError, match="was taken over by another process, so this process stops"):
        mirror.commit()
    assert lost.wait(10)
    with pytest.raises(ResumableError, match="was taken over"):
        mirror.close()
    other.close()
    assert {name.split("/")[2] for name in read_snapshot(store)[0].names} <= {str(late.term), str(new.term)}
    new.release()
    third = Mirror(store, take(store, "process 3"), tmp_path / "third", BucketSettings(upload_seconds=NEVER))
    third.restore()
    assert (tmp_path / "third/a.jsonl").read_text() == "1\n2\n"
    assert set(store.objects(".aloe/parts/")) == read_snapshot(store)[0].names
    third.close()


def test_a_write_whose_answer_got_lost_counts(store):
    """The client repeats it, and the repetition is refused."""
    mine = Holding(id="a", who="process 1", sign="", seconds=NEVER)
    first = leases._written(store, mine, 0, NEVER)
    assert leases._written(store, mine, 0, NEVER) == first
    with pytest.raises(ConflictError):
        leases._written(store, mine.model_copy(update={"id": "b"}), 0, NEVER)


def test_a_bucket_that_is_not_there():
    with pytest.raises(InputError, match=r"'gs://no-bucket/run' cannot be used \(404 .*\); check the bucket"):
        take(Store("gs://no-bucket/run"))
