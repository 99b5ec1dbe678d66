import pytest

from helpers.hosts_of_tests import make_tpu_host


@pytest.fixture
def tpu_host(tmp_path):
    return make_tpu_host(tmp_path)
