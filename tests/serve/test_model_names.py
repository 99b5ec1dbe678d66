"""Which models the command line names."""

import pytest

from aloe_jax.errors import InputError
from aloe_jax.serve.model_names import named_models


def test_names_and_places(tmp_path):
    odd = tmp_path / "lr=0.1"
    odd.mkdir()
    assert named_models(["runs/export"]) == [("runs/export", "runs/export")]
    assert named_models(["runs/export"], "mine") == [("mine", "runs/export")]
    assert named_models(["base=embedded:smollm2", "aligned=runs/a=b"]) == [
        ("base", "embedded:smollm2"),
        ("aligned", "runs/a=b"),
    ]
    assert named_models([str(odd)]) == [(str(odd), str(odd))]
    assert named_models(["gs://bucket/a=b"]) == [("gs://bucket/a=b", "gs://bucket/a=b")]


@pytest.mark.parametrize(
    ("given", "name", "said"),
    [
        (["a", "b"], "mine", "names one model, and there are 2"),
        (["x=a"], "mine", "both name the model"),
        (["x=a", "x=b"], None, "two models have the name 'x'"),
        (["x="], None, "no place"),
        (["=a"], None, "letters, digits"),
        (["a b=c"], None, "'a b'"),
        (["a"], "-", "'-'"),
    ],
)
def test_names_that_requests_could_not_give_are_refused(given, name, said):
    with pytest.raises(InputError, match=said):
        named_models(given, name)
