"""Which URLs are run directories in a bucket, and how they are written."""

import pytest
from etils import epath

from aloe_jax.bucket.places import in_bucket, url_of
from aloe_jax.errors import InputError


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("gs://bucket/run", "gs://bucket/run"),
        ("gs://bucket/run/", "gs://bucket/run"),
        ("gs://bucket//runs///a//", "gs://bucket/runs/a"),
        ("gs://bucket/./runs/./a/.", "gs://bucket/runs/a"),
        ("gs://bucket/my run", "gs://bucket/my run"),
        ("gs://bucket/läufe/a%20b#1?", "gs://bucket/läufe/a%20b#1?"),
    ],
)
def test_a_folder_has_one_url(given, url):
    """That under which the checkpoints lie, so that the rest of the run lies beside them."""
    assert in_bucket(given)
    assert url_of(given) == url
    assert str(epath.Path(given) / "x") == f"{url}/x"


@pytest.mark.parametrize(
    "given",
    ["gs://", "gs://bucket", "gs://bucket//", "gs://bucket/.", "gs:///a", "gs://b/a/../c", "gs://b/a ", "gs://b/a\n"],
)
def test_what_is_no_folder(given):
    with pytest.raises(InputError, match="no folder in a bucket; expected gs://BUCKET/DIR"):
        url_of(given)


@pytest.mark.parametrize("given", ["gs:/b/a", "GS://b/a", " gs://b/a", "gcs://b/a", "s3://b/a", "https://host/b/a"])
def test_other_urls_are_no_folders_of_this_machine(given):
    with pytest.raises(InputError, match=r"object store that runs do not know; use a folder .* or gs://BUCKET/DIR"):
        in_bucket(given)


@pytest.mark.parametrize("given", ["runs/a", "/mnt/runs/a", "runs/a:b", "a:b", "embedded:smollm2", "./a:/b", "", "gs"])
def test_folders_of_this_machine(given):
    assert not in_bucket(given)
