"""JSON is read and written strictly: what JSON lacks is refused with its place, and never written."""

import gzip
import json
import math

import pytest

from aloe_jax import files
from aloe_jax.errors import InputError

REFUSED = [
    ('{"a": NaN}', "NaN is no number of JSON"),
    ('{"a": -Infinity}', "-Infinity is no number of JSON"),
    ('{"a": 1e400}', "the number 1e400 is beyond a float"),
    ('{"a": %s}' % ("9" * 6000), "a number has 6,000 digits"),
    ('{"a": 0.5, "a": 1}', "key 'a' stands twice"),
    ('{"a": "\\ud83d"}', "half a surrogate pair"),
    ('{"a": "\\ude00\\ud83d"}', "half a surrogate pair"),
    ("[" * 100_000, "nested too deeply"),
    ('{"a": ' * 100_000, "nested too deeply"),
    ('{"a": tru}', "broken JSON"),
]


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_what_json_lacks_is_one_sentence_with_file_and_line(tmp_path, text, said):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n' + text + "\n")
    with pytest.raises(InputError, match=r"a\.jsonl line 2: ") as caught:
        files.read_json_lines(tmp_path / "a.jsonl")
    assert said in str(caught.value)
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=r"a\.json.*: ") as caught:
        files.read_json(tmp_path / "a.json")
    assert said in str(caught.value)


def test_marks_of_byte_order_and_gzip_are_read(tmp_path):
    content = "\ufeff" + '{"a": "\\ud83d\\ude00"}\n{"a": 1e300}\n'
    (tmp_path / "plain.jsonl").write_text(content, encoding="utf-8")
    (tmp_path / "packed.jsonl").write_bytes(gzip.compress(content.encode()))
    for name in ("plain", "packed"):
        assert files.read_json_lines(tmp_path / f"{name}.jsonl") == [{"a": "\U0001f600"}, {"a": 1e300}]
    (tmp_path / "one.json").write_text("\ufeff[1]", encoding="utf-8")
    assert files.read_json(tmp_path / "one.json") == [1]


def test_lines_hold_null_for_numbers_that_json_lacks():
    record = {"loss": math.nan, "parts": [1.5, math.inf, {"x": (-math.inf, "é")}], "step": 3}
    line = files.json_line(record)
    assert json.loads(line, parse_constant=pytest.fail) == {
        "loss": None,
        "parts": [1.5, None, {"x": [None, "é"]}],
        "step": 3,
    }
    assert files.json_line({"a": [1, 2]}, compact=True) == '{"a":[1,2]}'
    with pytest.raises(InputError, match="half a surrogate pair"):
        files.json_line({"text": "\ud83d"})
