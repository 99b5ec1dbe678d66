"""Files of every kind that hold records: what is read, and one sentence with file and line for what is not."""

import contextlib
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aloe_jax.errors import InputError
from aloe_jax.formats.convert import convert
from aloe_jax.tree.schema import read_trees, write_records
from helpers.tree_samples import aloe_tree

RECORDS = [{"prompt": f"Question {at}?", "chosen": f"Good {at}", "rejected": f"Poor {at}"} for at in range(3)]
LINES = "".join(json.dumps(record) + "\n" for record in RECORDS)
BOM = b"\xef\xbb\xbf"
TABLE = "prompt,chosen,rejected\n" + "".join(",".join(record.values()) + "\n" for record in RECORDS)


def arrow(kind):
    table, sink = pa.Table.from_pylist(RECORDS), pa.BufferOutputStream()
    with (pa.ipc.new_file if kind == "file" else pa.ipc.new_stream)(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def parquet(**options):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(RECORDS), sink, **options)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", BOM + LINES.encode()),
        ("a.jsonl", LINES.replace("\n", "\r\n").encode()),
        ("a.json", json.dumps(RECORDS).encode()),
        ("a.json", json.dumps(RECORDS, indent=2).encode()),
        ("a.jsonl", BOM + json.dumps(RECORDS, indent=4).encode()),
        ("a.json", "\n".join(json.dumps(record, indent=2) for record in RECORDS).encode()),
        ("a.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)),
        ("a.jsonl", gzip.compress(BOM + LINES.encode(), mtime=0)),
        ("a.json.gz", gzip.compress(json.dumps(RECORDS, indent=1).encode(), mtime=0)),
        ("a.csv", BOM + TABLE.encode()),
        ("a.csv.gz", gzip.compress(TABLE.encode(), mtime=0)),
        ("a.tsv", TABLE.replace(",", "\t").encode()),
        ("a.arrow", arrow("file")),
        ("a.arrow", arrow("stream")),
        ("a.feather", arrow("file")),
        ("a.parquet", parquet()),
        ("a.data", parquet()),
    ],
)
def test_records_are_read_from_files_of_every_kind(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    report = convert(tmp_path / name, tmp_path / "out.jsonl")
    assert (report.read, report.kept, report.pairs) == (3, 3, 3)
    texts = [[node.text for node in tree.nodes] for tree in read_trees(tmp_path / "out.jsonl")]
    assert texts == [list(record.values()) for record in RECORDS]


def test_cells_may_hold_line_breaks_and_empty_ones_are_missing(tmp_path):
    (tmp_path / "a.csv").write_text('system,question,chosen,rejected\n,"Two\nlines?",yes,no\nBe brief.,And?,"a, b",c\n')
    convert(tmp_path / "a.csv", tmp_path / "out.jsonl")
    texts = [[node.text for node in tree.nodes] for tree in read_trees(tmp_path / "out.jsonl")]
    assert texts == [["Two\nlines?", "yes", "no"], ["Be brief.", "And?", "a, b", "c"]]


GOOD = '{"prompt": "Hi", "chosen": "Ho", "rejected": "Ha"}\n'


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "a.jsonl",
            GOOD + '{"prompt": "Hi \\ud83d", "chosen": "a", "rejected": "b"}',
            "line 2: a text holds half a s",
        ),
        (
            "a.jsonl",
            GOOD + '{"prompt": "Hi", "chosen": "\\ude00a", "rejected": "b"}',
            "line 2: a text holds half a s",
        ),
        ("a.jsonl", GOOD + GOOD.replace("}", ', "margin": NaN}'), "line 2: NaN is no number of JSON"),
        ("a.jsonl", GOOD + GOOD.replace("}", ', "margin": -Infinity}'), "line 2: -Infinity is no number"),
        ("a.jsonl", GOOD + GOOD.replace("}", ', "margin": 1e400}'), "line 2: the number 1e400 is beyond a float"),
        ("a.jsonl", GOOD + GOOD.replace("}", f', "x": {"9" * 6000}}}'), "line 2: a number has 6,000 digits"),
        ("a.jsonl", GOOD + "[" * 100_000, "line 2: it is nested too deeply"),
        ("a.jsonl", GOOD + '{"prompt": "Hi", "chosen": "a", "rejected": "b", "chosen": "c"}', "'chosen' stands twice"),
        ("a.json", "[" + GOOD + ",\n" + "[" * 100_000, "line 3: it is nested too deeply"),
        ("a.json", "[" + GOOD + ',\n{"prompt": "\\ud83d"}]', "line 3: a text holds half a surr"),
        ("a.json", "[" + GOOD + ',\n{"prompt" "x"}]', "line 3: broken JSON"),
        ("a.json", "[" + GOOD, "the list has no end"),
        ("a.jsonl", b"\xff\xfeH\x00i\x00", "is UTF-16 text; save it as UTF-8"),
        ("a.jsonl", GOOD.encode() + b'{"prompt": "\xe9"}', "line 2: not UTF-8 text"),
        ("a.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)[:-9], "is damaged gzip"),
        ("a.jsonl.zst", b"\x28\xb5\x2f\xfd\x00", "is zstd-compressed; unpack it"),
        ("a.xlsx", b"PK\x03\x04\x00", "is a zip archive or a spreadsheet"),
        ("a.txt", TABLE, "it looks like a table: give it a name ending in .csv"),
        ("a.csv", "prompt,chosen,rejected\na,b\n", "line 2: it has 2 cells; the header has 3"),
        ("a.csv", "prompt,chosen,chosen\na,b,c\n", "stands twice in the header"),
        ("a.csv", "text,score\na,1\n", "its keys are 'text', 'score'"),
        ("a.arrow", b"ARROW1\x00\x00 no", "is not a readable Arrow file"),
        ("a.parquet", LINES, "is not a readable parquet file"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        convert(tmp_path / name, tmp_path / "out.jsonl")
    assert said in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("compression", ["snappy", "zstd", "none"])
def test_a_parquet_file_damaged_anywhere_is_refused(tmp_path, compression):
    """Pages carry checksums here, as in the files that we write, so no flipped byte gives another text."""
    content = parquet(compression=compression, use_dictionary=False, write_page_checksum=True)
    path = tmp_path / "a.parquet"
    for place in range(20, content.rindex(b"PAR1") - 8, 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x5A]) + content[place + 1 :])
        with contextlib.suppress(InputError):
            convert(path, tmp_path / "out.jsonl")
            texts = [[node.text for node in tree.nodes] for tree in read_trees(tmp_path / "out.jsonl")]
            assert texts == [list(record.values()) for record in RECORDS]


def test_our_parquet_detects_a_flipped_byte_in_a_text(tmp_path):
    write_records(tmp_path / "trees.jsonl", [aloe_tree(2)])
    convert(tmp_path / "trees.jsonl", tmp_path / "trees.parquet")
    content = bytearray((tmp_path / "trees.parquet").read_bytes())
    content[content.index(b"I like walk")] ^= 1
    (tmp_path / "trees.parquet").write_bytes(content)
    with pytest.raises(InputError, match="not a readable parquet file"):
        convert(tmp_path / "trees.parquet", tmp_path / "back.jsonl")


TREE = (
    '{"id": "x", "nodes": [{"id": "u", "parent": null, "role": "user", "text": "q"}, {"id": "a", "parent": "u", '
    '"role": "assistant", "text": "a", "value": VALUE}, {"id": "b", "parent": "u", "role": "assistant", "text": "b"}], '
    '"preferences": [{"chosen": "a", "rejected": "b", "margin": MARGIN}]}'
)


@pytest.mark.parametrize(
    ("value", "margin", "said"),
    [
        ("NaN", "1", "field nodes.1.value: Input should be a finite number"),
        ("1", "-Infinity", "field preferences.0.margin: Input should be a finite number"),
        ("1e400", "1", "field nodes.1.value: Input should be a finite number"),
        ("true", "1", "field nodes.1.value: Input should be a valid number, found 'True'"),
        ("1", '"0.5"', "field preferences.0.margin: Input should be a valid number, found '0.5'"),
        ("1", "-2", "field preferences.0.margin: Input should be greater than or equal to -1"),
        ("9" * 6000, "1", "a number has 6,000 digits"),
        ("[" * 100_000, "1", "nested too deeply"),
        ('"\\ud83d"', "1", "half a surrogate pair"),
    ],
)
def test_trees_with_numbers_that_are_none_are_refused_by_line_and_field(tmp_path, value, margin, said):
    path = tmp_path / "trees.jsonl"
    path.write_text(TREE.replace("VALUE", "1").replace("MARGIN", "1").replace('"x"', '"w"') + "\n"
                    + TREE.replace("VALUE", value).replace("MARGIN", margin) + "\n")  # fmt: skip
    with pytest.raises(InputError) as caught:
        list(read_trees(path))
    assert f"{path} line 2: " in str(caught.value)
    assert said in str(caught.value)


def test_a_tree_whose_pair_has_no_prompt_is_refused(tmp_path):
    tree = TREE.replace("VALUE", "1").replace("MARGIN", "1").replace('"role": "user"', '"role": "system"')
    (tmp_path / "trees.jsonl").write_text(tree)
    with pytest.raises(InputError, match="line 1: the pair of 'a' has no prompt"):
        convert(tmp_path / "trees.jsonl", tmp_path / "out.parquet")
