"""A walk through README and the guides: their commands, one after the other, from one empty folder. Run by hand:

    JAX_PLATFORMS=cpu PYTHONPATH=tests uv run python tests/long/walk.py --out=walk.log

Every command of a `sh` block of README.md and docs/*.md is taken as it is written (continued lines joined, comments
dropped) and given to bash, in the order of each page. What differs from a reader's terminal:

- the folder has links to the clone's `configs`, `benchmarks` and `tests`, and `uv run` starts what follows it in this
  environment, without installing anything;
- what would take long runs small, after the table SMALLER: configs by their argument `:debug`, the model of the demos
  replaced by a tiny one (`--model=embedded:smollm2` keeps it), fewer calls or turns of a measurement. Commands that
  name servers at 10.0.0.x run with `--dry-run`, which checks their settings; a line that only has options is given to
  `aloe config`. The log has both forms;
- what a page takes for given (a user's data and model, a second run, other machines' shares) is made first, after the
  table GIVEN, and counted as a command: copies of the demo's run stand for other runs;
- `aloe chat` is told "Hello" and the end of its input. Servers stay up until their page ends, and then get a Ctrl-C,
  after which they have to end with 0;
- `gs://BUCKET` is a bucket on a server of this machine;
- commands after the table LEFT_OUT do not run, and are listed with the reason.

The log has a line per command: page, exit code, seconds, command. Exit code 1 if one of them stumbled.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers import tiny
from helpers.aloe_command import ROOT
from helpers.bucket_servers import BUCKET, storage_emulator
from helpers.own_data import write_own
from helpers.waiting import until

LONGEST = 3600  # seconds for a command
TAIL = 12  # lines shown of a command that stumbled
TORCH = importlib.util.find_spec("torch") is not None

LEFT_OUT = {
    r"^git clone": "needs the network",
    r"^gcloud|--distributed": "needs several hosts",
    r"^(sky|kubectl) |^aloe \w+ gs://": "needs an account with a cloud",
    r"^uv (tool install|venv)|_PYTHON=": "installs other tools",
    r"push \S+ --repo": "needs an account on the hub",
    r"^vllm": "needs vLLM and an accelerator",
    r"^pip install (?!uv &&)|--with ": "needs the network",
    r"^lm_eval": "has an environment of its own, and downloads its tasks",
    r"--(trl|torch|llama)-python": "needs PyTorch, TRL or llama.cpp in an environment of its own",
    r"MODEL|TOPOLOGY|FILE\.py": "has a placeholder",
    r"^uv run pytest": "is a test, which CI runs",
    r"benchmarks/import_memory": "writes and reads gigabytes, and has one size",
    r"benchmarks/attention_blocks": "packs two hundred conversations for three slices, and has one size",
    r"tests/long/coverage": "takes 17 minutes, and has one size",
    r"tests/long/release|^uvx|^uv export": "needs the network",
} | ({} if TORCH else {r"import pipeline": "needs PyTorch"})

TWIN = (
    " --config.personas.profiles=6 --config.conversations.trees=6 --config.personas.benchmark_profiles=2"
    " --config.personas.benchmark_personalities=2 --config.sft.epochs=1 --config.online.rounds=1"
    " --config.online.trees=4 --config.online.rollout.batch=4 --config.online.alarm.truncated=0"
    " --config.online.alarm.flat=0 --config.online.alarm.repetition=0"
)
ON_POLICY = (
    " {model} --config.personas.profiles=4 --config.conversations.trees=4 --config.conversations.turns=2"
    " --config.serve.context=1024 --config.dataset.max_path=1024 --config.roles.responder.max_tokens=8"
)
SMALLER = {
    r"^pip install uv && ": "",
    r"^--config": r"aloe config --config=demo --config",
    r"^(?=.*//10\.0\.0\.)(aloe run .*)": r"\1 --dry-run",
    r"(aloe run --config=mine\.py)(?= )": r"\1:debug --dry-run",  # it names such servers
    r"(aloe run .*--config=(?:configs/)?demo(?:\.py)?)(?= |$)": r"\1:debug {model}",
    r"(aloe run .*--config=(?:configs/)?demo_llm(?:\.py)?)(?= |$)": r"\1:debug",  # its prompts are long for a tiny one
    r"(aloe run .*--config=configs/world\.py)(?= )": r"\1:debug {model}",
    r"(aloe run .*:on_policy(?= ).*)": r"\1" + ON_POLICY,
    r"(aloe run .*:twin(?= ).*)": r"\1" + TWIN,
    r"(aloe run .*:twin_base.*)": r"\1 --dry-run",
    r"--config=llama3_8b(:[a-z-]+)?(?= )": "--config=llama3_8b:debug",
    r"--config=configs/(llama3|qwen3)_8b\.py(:[a-z-]+)?(?= )": r"--config=configs/\1_8b.py:debug",
    r"fsdp=2 --config.decode.mesh.tensor=8": "fsdp=16 --config.decode.mesh.tensor=1",  # a tiny model has one key head
    r"(benchmarks/cost_by_turns\.py .*?)(--turns [\d ]+)?$": r"\1 --turns 1 2",
    r"(benchmarks/online_methods\.py .*?)(?: -- .*)?$": r"\1 --rounds=1 --trees=4 --seeds=1 --methods=turn --" + TWIN,
    r"(benchmarks/online_cost\.py)( .*)?$": r"\1 --model=twin --learned siblings --repeats=1",
    r"(benchmarks/credit\.py .*)": r"\1 --personas=2 --turns=3 --truth=2",
    r"(benchmarks/scale\.py).*": r"\1 --parts=turns,viewer",
    r"(benchmarks/serving_client\.py)": r"\1 --calls=2000",
    r"^(?=.*--labels=(\w+\.jsonl))": r"""sed -i 's/"score": null/"score": 3/' \1 && """,  # who labels, fills it in
    r"gs://BUCKET/": f"gs://{BUCKET}/",
    r"^curl ": "curl --fail-with-body --silent --show-error ",
}
CONTROL = "--stages=benchmark --config.benchmark.controls=wrong_persona"
GIVEN = {  # path: the command that makes it
    "runs/demo": "aloe run --config=configs/demo.py --workdir=runs/demo",
    "runs/a": f"cp -r runs/demo runs/a && aloe run --config=configs/demo.py --workdir=runs/a {CONTROL}",
    "runs/b": "cp -r runs/demo runs/b",
    "runs/other": "cp -r runs/demo runs/other",
    "runs/large": "cp -r runs/demo runs/large",
    "runs/aligned": "cp -r runs/demo runs/aligned",
    "mine.py": f"sed -n '/^```python/,/^```$/p' {ROOT}/docs/eight_billion.md | grep -v '^```' > mine.py",
    "trees.jsonl": "aloe convert pairs.jsonl --out=trees.jsonl",
    "chats": "mkdir chats && aloe convert pairs.jsonl --out=chats/pairs.parquet",
} | {
    f"runs/shard{n}": f"aloe run --config=configs/demo.py --workdir=runs/shard{n} --stages=personas,conversations"
    f" --shard={n}/4 --config.conversations.trees=8"
    for n in range(4)
}
SERVERS = {r"aloe (serve|view)\b": "http://127.0.0.1:", r"--watch": "index.html"}  # command: what it says when it works


@dataclass(frozen=True)
class Command:
    """A command of a page, as it is written."""

    page: str
    text: str

    def left_out(self) -> str:
        """Why it does not run here; empty if it does."""
        return next((reason for pattern, reason in LEFT_OUT.items() if re.search(pattern, self.text)), "")

    def smaller(self, model: str) -> str:
        """What runs in its place."""
        return smaller(self.text, model)

    def given(self) -> list[str]:
        """The paths of GIVEN that it reads, the first ones first."""
        return [path for path in GIVEN if re.search(rf"(?<![\w/])(?<!workdir=)(?<!out=){path}\b", self.text)]


def smaller(text: str, model: str) -> str:
    """The command without `uv run`, in its small size."""
    text = text.removeprefix("uv run ").replace("&& uv run ", "&& ")
    for pattern, replacement in SMALLER.items():
        text = re.sub(pattern, replacement.replace("{model}", f"--config.model.source={model}"), text, flags=re.DOTALL)
    return text


def commands(page: str) -> Iterator[Command]:
    """The commands of a page's `sh` blocks. A command goes on while a quotation is open."""
    for block in re.findall(r"^```sh\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL):
        begun = ""
        for line in block.replace("\\\n", " ").splitlines():
            begun += line
            try:
                shlex.split(begun, comments=True)
            except ValueError:  # no closing quotation yet
                begun += "\n"
                continue
            if text := re.sub(r"\s+#\s.*$", "", begun).strip():
                yield Command(page, re.sub(r" {2,}", " ", text))
            begun = ""


class Walk:
    """Runs commands in one folder and keeps the servers that they start."""

    def __init__(self, folder: Path, model: str, say: Callable[[str], None], bucket: dict[str, str]) -> None:
        """`bucket` is the environment in which `gs://` leads to a server of this machine."""
        self.folder, self.model, self.say = folder, model, say
        self.stumbles, self.ran, self.left = 0, 0, 0
        self._servers: list[tuple[Command, subprocess.Popen[bytes]]] = []
        paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        kept = {name: value for name, value in os.environ.items() if name != "ALOE_API_KEY"}
        self._environment = kept | bucket | {"PATH": paths, "JAX_PLATFORMS": "cpu", "COLUMNS": "100"}
        for name in ("configs", "benchmarks", "tests"):
            if not (folder / name).exists():
                (folder / name).symlink_to(ROOT / name)
        if not (folder / "my-base").exists():
            write_own(folder)
            tiny.write_folder(folder / "tiny")

    def page(self, name: str) -> None:
        """Walk through a page and stop the servers it started."""
        try:
            for command in commands(name):
                if reason := command.left_out():
                    self.left += 1
                    self.say(f"{name}  left out, {reason}: {one_line(command.text)}")
                else:
                    self.step(command)
        finally:
            while self._servers:
                self.stop(*self._servers.pop())

    def step(self, command: Command) -> None:
        """Make what the command takes for given, and run it."""
        for path in command.given():
            made_here = GIVEN[path] == command.text
            if not made_here and not (self.folder / path).exists():
                self.step(Command(f"(given for {command.page})", GIVEN[path]))
        self.ran += 1
        text = command.smaller(self.model)
        if text != command.text.removeprefix("uv run "):
            self.say(f"{command.page}  as written: {one_line(command.text)}")
        began = time.monotonic()
        said = next((sign for pattern, sign in SERVERS.items() if re.search(pattern, text)), "")
        code, output = self.serve(command, text, said) if said else self.run(text)
        self.told(command, text, code, time.monotonic() - began, output)

    def told(self, command: Command, text: str, code: int | str, seconds: float, output: str) -> None:
        """Say how a command ended."""
        self.say(f"{command.page}  {code}  {seconds:.1f} s  {one_line(text)}")
        if code not in (0, "serves"):
            self.stumbles += 1
            self.say("".join(f"\n    | {line}" for line in output.splitlines()[-TAIL:]))

    def run(self, text: str) -> tuple[int, str]:
        """Exit code and output of a command."""
        done = subprocess.run(
            ["bash", "-c", text], cwd=self.folder, env=self._environment, input="Hello\n", text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LONGEST,
        )  # fmt: skip
        return done.returncode, done.stdout

    def serve(self, command: Command, text: str, sign: str) -> tuple[int | str, str]:
        """Start a command that stays, and wait until it says that it works."""
        output = self.folder / "server.txt"
        with output.open("w") as file:
            server = subprocess.Popen(
                ["bash", "-c", f"exec {text}"], cwd=self.folder, env=self._environment, stdin=subprocess.DEVNULL,
                stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )  # fmt: skip
        until(lambda: sign in output.read_text() or server.poll() is not None, LONGEST, every=0.1)
        if server.poll() is None:
            self._servers.append((command, server))
            return "serves", ""
        return server.returncode, output.read_text()

    def stop(self, command: Command, server: subprocess.Popen[bytes]) -> None:
        """Press Ctrl-C in a server's terminal."""
        began = time.monotonic()
        os.killpg(server.pid, signal.SIGINT)
        self.told(command, f"Ctrl-C: {command.text}", server.wait(LONGEST), time.monotonic() - began, "")


def one_line(text: str) -> str:
    """The command on one line, shortened."""
    return re.sub(r"\s+", " ", text)[:300]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pages = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
    parser.add_argument("--pages", default=",".join(pages), help="pages to walk through, comma-separated")
    parser.add_argument("--model", default="tiny", help="model of the demos in place of SmolLM2 (a tiny one)")
    parser.add_argument("--folder", type=Path, help="where to walk; it stays, so that a later call finds its runs")
    parser.add_argument("--out", type=Path, help="file to add the log to")
    options = parser.parse_args()
    with contextlib.ExitStack() as opened:
        out = opened.enter_context(options.out.open("a")) if options.out else None

        def say(text: str) -> None:
            for file in filter(None, (sys.stdout, out)):
                print(text, file=file, flush=True)

        folder = options.folder or Path(opened.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        walk = Walk(folder.resolve(), options.model, say, opened.enter_context(storage_emulator()))
        for page in options.pages.split(","):
            walk.page(page)
        say(f"{walk.ran} commands run, {walk.left} left out, {walk.stumbles} stumbles")
    sys.exit(bool(walk.stumbles))


if __name__ == "__main__":
    main()
