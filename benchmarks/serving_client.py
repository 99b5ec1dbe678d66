"""Calls through the serving client and the record store at the paper's size, compared with the openai client.

    uv run python benchmarks/serving_client.py                   # 200,000 calls, a few minutes
    uv run python benchmarks/serving_client.py --calls=20000     # shorter

A fake server in another process answers after 5 ms (`tests/helpers/fake_server.py`). Our side works as data generation
does: request hashed, looked up, sent, answer checked and appended to `calls.jsonl`. The openai client only sends. Both
keep 128 calls under way; they take turns in rounds, so that both run under the same load of the machine. Printed: calls
per second, CPU milliseconds of the client's process per call, resident memory after each round, and the time to open
the full store again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import openai
from rich.console import Console
from rich.table import Table

from aloe_jax.serve.client.client import Client
from aloe_jax.serve.client.interface import SamplingOptions
from aloe_jax.tree.schema import Message
from data_gen.calls.call_cache import CallCache
from data_gen.calls.store import Store

SERVER = Path(__file__).parent.parent / "tests/helpers/fake_server.py"
MODEL = "fake-1"
CONCURRENCY = 128
ROUNDS = 10
# As in a conversation of some turns: about 1,500 characters.
SYSTEM = "You are chatting with a friend. " + "They told you about their garden, their job and their sister. " * 20
SAMPLING: SamplingOptions = {"temperature": 0.8, "top_p": 0.95, "max_tokens": 128}


@dataclass
class Side:
    """Calls and seconds of one client; memory in MiB after each round."""

    calls: int = 0
    seconds: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    cpu: float = 0.0
    memory: list[float] = field(default_factory=list)

    async def round(self, count: int, ask: Callable[[int], Awaitable[object]]) -> None:
        """`count` more calls, `CONCURRENCY` under way."""
        numbers = iter(range(self.calls, self.calls + count))

        async def worker() -> None:
            for number in numbers:
                await ask(number)

        began, cpu = time.monotonic(), time.process_time()
        await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
        self.seconds.append(time.monotonic() - began)
        self.rates.append(count / self.seconds[-1])
        self.cpu += time.process_time() - cpu
        self.calls += count
        self.memory.append(resident())


def resident() -> float:
    """Resident memory of this process in MiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def measure(url: str, folder: Path, calls: int, theirs_every: int, console: Console) -> tuple[Side, Side]:
    """Both sides in turns; the openai client makes one call per `theirs_every` of ours."""
    ours, theirs = Side(), Side()
    baseline = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=5)
    with Store(folder) as store:
        async with Client(url, MODEL, concurrency=CONCURRENCY, retries=100) as client:
            recorded = CallCache(client, store, "responder", "template")

            async def ask_ours(number: int) -> object:
                messages = [Message(role="system", content=SYSTEM), Message(role="user", content=f"Message {number}.")]
                return await recorded.chat(messages, seed=number, affinity=f"conversation {number // 20}", **SAMPLING)

            async def ask_theirs(number: int) -> object:
                return await baseline.chat.completions.create(
                    model=MODEL,
                    messages=[
                        {"role": "system", "content": SYSTEM},
                        {"role": "user", "content": f"Message {number}."},
                    ],
                    seed=number,
                    n=1,
                    logprobs=True,
                    temperature=0.8,
                    top_p=0.95,
                    max_tokens=128,
                )

            await ours.round(CONCURRENCY, ask_ours)  # connections are opened, code is warmed up
            await theirs.round(CONCURRENCY, ask_theirs)
            ours, theirs = Side(calls=ours.calls), Side(calls=theirs.calls)
            for number in range(ROUNDS):
                await ours.round(calls // ROUNDS, ask_ours)
                await theirs.round(max(1, calls // ROUNDS // theirs_every), ask_theirs)
                console.print(
                    f"{(number + 1) * calls // ROUNDS} calls: ours {ours.rates[-1]:.0f} a second, openai "
                    f"{theirs.rates[-1]:.0f}, {ours.memory[-1]:.0f} MiB",
                    highlight=False,
                )
    await baseline.close()
    return ours, theirs


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Time the serving client and the record store.")
    parser.add_argument("--calls", type=int, default=200_000, help="calls of our side (default 200,000)")
    parser.add_argument("--theirs-every", type=int, default=20, help="one openai call for so many of ours (20)")
    options = parser.parse_args()
    console = Console()
    server = subprocess.Popen([sys.executable, str(SERVER), "--latency=0.005"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
        with tempfile.TemporaryDirectory() as folder:
            first = CONCURRENCY
            ours, theirs = asyncio.run(measure(url, Path(folder), options.calls, options.theirs_every, console))
            began = time.monotonic()
            with Store(Path(folder)) as store:
                opened, stored = time.monotonic() - began, store.calls
            size = (Path(folder) / "calls.jsonl").stat().st_size / 2**20
    finally:
        server.kill()
        server.wait()
    table = Table(title=f"{options.calls:,} calls, {CONCURRENCY} under way, answers after 5 ms")
    for column in ("", "calls a second, median round", "least to most", "CPU ms a call"):
        table.add_column(column, justify="right" if column else "left")
    for name, side in (("aloe_jax, stored", ours), ("openai", theirs)):
        spread = f"{min(side.rates):.0f} to {max(side.rates):.0f}"
        cpu = 1000 * side.cpu / (side.calls - first)
        table.add_row(name, f"{statistics.median(side.rates):.0f}", spread, f"{cpu:.2f}")
    console.print(table)
    ratios = [a / b for a, b in zip(ours.rates, theirs.rates, strict=True)]
    console.print(f"rate over openai's, median of {ROUNDS} rounds: {statistics.median(ratios):.1f}", highlight=False)
    console.print(f"memory: {ours.memory[0]:.0f} MiB after the first tenth, {ours.memory[-1]:.0f} MiB at the end")
    console.print(f"store of {stored:,} calls, {size:.0f} MiB, opened in {opened:.1f} s")


if __name__ == "__main__":
    main()
