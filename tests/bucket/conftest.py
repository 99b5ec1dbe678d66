"""A bucket of its own for every test, on a server that refuses writes whose condition does not hold."""

import pytest

from aloe_jax.bucket.lease import acquire
from aloe_jax.bucket.mirror import Mirror
from aloe_jax.bucket.settings import BucketSettings
from aloe_jax.bucket.store import Store
from helpers.bucket_servers import BUCKET, strict_server

NEVER = 3600.0  # seconds after which what is not to happen happens


@pytest.fixture(scope="session", autouse=True)
def server():
    with strict_server() as url:
        yield url


@pytest.fixture
def store(request):
    return Store(f"gs://{BUCKET}/{request.node.name}")


@pytest.fixture
def open_mirror(store):
    """A function that takes the lease at once and gives the mirror of a folder, which uploads when it is told to."""

    def open_at(root, **settings):
        lease = acquire(store, "a test", "", NEVER, [].append, pytest.fail, gone=lambda sign: True)
        mirror = Mirror(store, lease, root, BucketSettings(**{"upload_seconds": NEVER} | settings))
        mirror.restore()
        return mirror

    return open_at
