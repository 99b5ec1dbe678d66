"""One conversion of the embedded model per session, in a cache of its own, so that no older conversion is tested."""

from __future__ import annotations

import os
import shutil

import pytest

from aloe_jax.hub import source


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory):
    """The converted embedded model; removed afterwards, it takes half a gigabyte."""
    cache = tmp_path_factory.mktemp("cache")
    before = os.environ.get("ALOE_CACHE")
    os.environ["ALOE_CACHE"] = str(cache)
    try:
        yield source.resolve_model("embedded:smollm2")
    finally:
        if before is None:
            del os.environ["ALOE_CACHE"]
        else:
            os.environ["ALOE_CACHE"] = before
        shutil.rmtree(cache)
