"""Model folders: config, tokenizer files and template, as they are inspected, imported and scored."""

from __future__ import annotations

import functools
import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from aloe_jax.tree.schema import write_records
from aloe_jax.tree.tokenizer import Tokenizer
from fuzz import case, mutators
from fuzz.case import Case, Result, command
from helpers import hub_files, tiny
from helpers.tree_samples import aloe_tree

CONFIG, TOKENIZER, SETTINGS, TEMPLATE, GENERATION = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json",
)  # fmt: skip
# Fields that decide nothing of what is computed, with values that they may have.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "transformers_version": ("4.40.0", "5.1.0.dev0"),
    "_name_or_path": ("somewhere/else", ""),
    "torch_dtype": ("float32", "bfloat16"),
    "use_cache": (True, False),
}
STATEMENTS = (
    "{{ 1/0 }}", "{{ messages[99]['content'] }}", "{{ unknown.field }}", "{{ raise_exception('no') }}",
    "{% for i in range(10**9) %}x{% endfor %}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{{ 'x' * 10**10 }}",
    "{{ messages | tojson }}", "{% set a = messages.clear() %}", "{{ bos_token }}{{ unk_token }}", "{{ 0.__class__ }}",
    "{% if %}", "{{ strftime_now('%Y') }}", "{% include 'x' %}", "{{ cycler.__init__.__globals__ }}", "\x00", "{#",
    "{% for a in messages %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}",
    "{{ '%s' | format }}", "{{ messages[0].content.split('') }}", "{{ 10 ** 10 ** 8 }}", "{% break %}", "{{ 'a' ~ }}",
    "{{ messages[0]['content'] | upper }}", "{{ namespace() }}", "{{ ('x' * 1000000) | wordwrap(1) | length }}",
    "{{ 'é' | urlencode }}", "{{ tools }}", "{{ '\\ud83d' }}", "{{ 0 | batch(0) | list }}",
)  # fmt: skip


@functools.cache
def _made() -> Path:
    """The good folders, made once per process: `tiny`, scored, and `small`, with a vocabulary of 96 bytes."""
    root = Path(tempfile.mkdtemp(prefix="aloe-fuzz-models-"))
    tiny.write_folder(root / "tiny")
    hub_files.write_tiny(root / "small")
    for name in ("tiny", "small"):
        settings = json.loads((root / name / CONFIG).read_text())
        ids = {"eos_token_id": settings.get("eos_token_id"), "temperature": 0.7, "max_new_tokens": 32}
        (root / name / GENERATION).write_text(json.dumps(ids))
    return root


def mutated_folder(rng: random.Random, folder: Path, base: str) -> tuple[str, bool]:
    """A copy of a good folder as `folder`/model with one file changed: the change in words, and whether it decides
    nothing."""
    shutil.copytree(_made() / base, folder / "model")
    names = (CONFIG, CONFIG, TOKENIZER, TOKENIZER, SETTINGS, GENERATION, TEMPLATE, TEMPLATE)
    path = folder / "model" / rng.choice(names)
    if not path.exists():
        path = folder / "model" / CONFIG
    kind = rng.choice(("json", "json", "json", "json", "neutral", "bytes", "file"))
    data = path.read_bytes()
    if kind == "file":
        return f"{path.name}: {other_kind(rng, path)}", False
    if kind == "bytes":
        data, told = mutators.mutate_bytes(rng, data)
        path.write_bytes(data)
        return f"{path.name}: {told}", False
    if path.name == TEMPLATE:
        return f"{path.name}: {_mutate_template(rng, path)}", False
    value = json.loads(data)
    if kind == "neutral":
        if path.name == CONFIG:
            key = rng.choice(list(NEUTRAL))
            value[key] = rng.choice(NEUTRAL[key])
        path.write_text(mutators.respelled(rng, value))
        return f"{path.name}: neutral", True
    value, told = mutators.mutate_json(rng, value)
    path.write_text(mutators.json_text(value), errors="surrogatepass")
    return f"{path.name}: {told}", False


def _mutate_template(rng: random.Random, path: Path) -> str:
    text = path.read_text()
    if rng.random() < 0.7:
        statement = rng.choice(STATEMENTS)
        place = rng.choice((0, len(text), rng.randint(0, len(text))))
        path.write_text(text[:place] + statement + text[place:])
        return statement
    place = rng.randint(0, len(text))
    path.write_text(text[:place] + text[place + rng.randint(1, 20) :])
    return "a part left out"


def other_kind(rng: random.Random, path: Path) -> str:
    """Put something that is no plain file in the place of one."""
    path.unlink()
    kind = rng.choice(("missing", "folder", "loop", "dangling", "fifo", "empty"))
    if kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "dangling":
        path.symlink_to("nowhere")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "empty":
        path.write_bytes(b"")
    return kind


def model(rng: random.Random, folder: Path) -> Case:
    """`aloe inspect` or `aloe import` of a folder with a changed file."""
    told, neutral = mutated_folder(rng, folder, rng.choice(("tiny", "small")))
    if rng.random() < 0.5:
        call, writes = ("inspect", "model", "--json=found.json"), ("found.json",)
        check = lambda result: _inspected(neutral, folder)  # noqa: E731
    else:
        call, writes = ("import", "model", "--out=out"), ("out",)
        check = lambda result: _imported(folder)  # noqa: E731
    return Case(command(*call), "aloe " + " ".join(call), told, writes=writes, check=check)


def _inspected(neutral: bool, folder: Path) -> str | None:
    found = _strict((folder / "found.json").read_text())
    if neutral:
        base = next(name for name in ("tiny", "small") if _same_weights(folder / "model", _made() / name))
        clean = case.aloe(("inspect", str(_made() / base), "--json=clean.json"))
        if clean.code == 0 and _unnamed(_strict(Path("clean.json").read_text())) != _unnamed(found):
            return "another finding than for the unchanged folder"
    return tokens_differ(folder / "model")


def _same_weights(one: Path, other: Path) -> bool:
    return (one / "model.safetensors").stat().st_size == (other / "model.safetensors").stat().st_size


def _unnamed(value: Any) -> Any:
    """The value without hashes and paths."""
    if isinstance(value, dict):
        return {key: _unnamed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_unnamed(inner) for inner in value]
    return "" if isinstance(value, str) and ("/" in value or value in ("model", "out") or len(value) == 64) else value


def _strict(text: str) -> Any:
    def refuse(name: str) -> float:
        raise ValueError(f"{name} in JSON")

    return json.loads(text, parse_constant=refuse)


def _imported(folder: Path) -> str | None:
    """What is wrong with an imported folder: it must hold the same tensors, and both must be read alike."""
    source, out = load_file(folder / "model/model.safetensors"), load_file(folder / "out/model.safetensors")
    if set(out) - set(source) or any(not np.array_equal(source[name], out[name]) for name in out):
        return "other tensors than the source's"
    results = [case.aloe(("inspect", name, f"--json={name}.json")) for name in ("model", "out")]
    if any(result.code for result in results):
        return f"imported, but inspect says {[result.err for result in results]}"
    found = [_unnamed(_strict(Path(f"{name}.json").read_text())) for name in ("model", "out")]
    if found[0] != found[1]:
        return "the imported folder is inspected with another finding than its source"
    return tokens_differ(folder / "out")


TEXTS = ("Hello there, what is 12345?", "  two  spaces\nand a line", "Grüße 🌊 <|im_end|>\n<s></s>")


def tokens_differ(folder: Path) -> str | None:
    """Where our tokens are others than those of transformers; None if they agree or transformers refuses the folder."""
    from transformers import PreTrainedTokenizerFast

    try:
        theirs = PreTrainedTokenizerFast.from_pretrained(folder)
        wanted = [theirs(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    except BaseException as error:
        if isinstance(error, case.Hang | KeyboardInterrupt):
            raise
        return None
    try:
        ours = Tokenizer.load(folder)
        found = [ours.encode(text) for text in TEXTS]
    except case.cli.AloeError:
        return None  # a text of the sample that the vocabulary lacks
    for text, ids, expected in zip(TEXTS, found, wanted, strict=True):
        if list(ids) != list(expected):
            return f"{text!r} has the tokens {ids}, with transformers {expected}"
    return None


@functools.cache
def _clean_scores() -> list[dict[str, Any]]:
    """The scores of the unchanged folder."""
    folder = Path(tempfile.mkdtemp(prefix="aloe-fuzz-scores-"))
    write_records(folder / "trees.jsonl", [aloe_tree(2)])
    call = ("score", f"--model={_made() / 'tiny'}", f"--trees={folder / 'trees.jsonl'}", f"--out={folder / 'scores'}")
    assert case.aloe(call).code == 0
    return list(_scores(folder / "scores"))


def _scores(path: Path) -> Iterator[dict[str, Any]]:
    return (_strict(line) for line in path.read_text().splitlines())


def score(rng: random.Random, folder: Path) -> Case:
    """`aloe score` under a folder with a changed file: finite, and the same where the change decides nothing."""
    told, neutral = mutated_folder(rng, folder, "tiny")
    write_records(folder / "trees.jsonl", [aloe_tree(2)])
    call = ("score", "--model=model", "--trees=trees.jsonl", "--out=scores.jsonl")
    clean = _clean_scores()

    def check(result: Result) -> str | None:
        found = list(_scores(folder / "scores.jsonl"))
        if [(one["conversation"], one["node"]) for one in found] != [
            (one["conversation"], one["node"]) for one in clean
        ]:
            return "other nodes than those of the trees"
        if any(one["log_prob"] > 1e-3 or one["tokens"] < 1 for one in found):
            return f"impossible scores: {found}"
        if neutral:
            off = max(abs(one["log_prob"] - two["log_prob"]) for one, two in zip(found, clean, strict=True))
            return f"log-probabilities differ by {off} from those of the unchanged folder" if off > 1e-4 else None
        return None

    return Case(command(*call), "aloe " + " ".join(call), told, writes=("scores.jsonl",), check=check)
