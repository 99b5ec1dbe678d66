"""Playing many cases. Every finished one is appended to `trees.jsonl` at once, so that nothing is played twice.

A case on which a server fails keeps its whole turns, is noted in `given_up.jsonl` and tried again by the next call that
has something to play, or is told to (`config.benchmark.retry`); its other turns count as unscored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from etils import epath

from aloe_jax import files
from aloe_jax.tree.schema import Conversation, Persona, Record, dump, parse, read_trees, write_records
from data_gen.calls.given_up import Endings
from data_gen.concurrency import gather_all
from eval.benchmark.dialogues import Played, replies_of

TREES, GIVEN_UP = "trees.jsonl", "given_up.jsonl"


class GivenUp(Record):
    """A line of `given_up.jsonl`: a case on which a server failed, at which turn, the reason in a few words, and what
    was said. Its replies count as unscored from that turn on; without one, all do."""

    case: str
    turn: int | None = None
    reason: str
    said: str


async def play_cases(
    play: Callable[[Persona], Awaitable[Played]],
    personas: Sequence[Persona],
    directory: epath.Path,
    *,
    turns: int,
    concurrency: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Play the cases of which `directory` has no dialogue of `turns` turns, `concurrency` at a time.

    Raises InputError or ResumableError where a server fails on most cases; those are tried again then.
    """
    path = directory / TREES
    directory.mkdir(parents=True, exist_ok=True)
    files.repair_lines(path)
    trees = list(read_trees(path)) if path.exists() else []
    kept = [tree for tree in trees if len(replies_of(tree)) >= turns]
    if len(kept) < len(trees):
        write_records(path, kept)  # the others are played on: what was answered is stored
    done = {tree.id for tree in kept}
    under_way = asyncio.Semaphore(concurrency)
    endings, given_up, partial = Endings("cases"), dict[str, GivenUp](), dict[str, Conversation]()

    async def one(persona: Persona) -> None:
        async with under_way:
            tree, failure = await play(persona)
        endings.add(failure)
        if failure is None:
            assert tree is not None
            files.append_line(path, dump(tree))
            done.add(persona.id)
            progress(len(done), max(len(personas), len(done)))
            return
        turn = 1 + (len(replies_of(tree)) if tree else 0)
        given_up[persona.id] = GivenUp(case=persona.id, turn=turn, reason=failure.kind, said=str(failure))
        if tree:
            partial[persona.id] = tree
        if (problem := endings.stop) is not None:
            raise problem from None

    await gather_all(one(persona) for persona in personas if persona.id not in done)
    if (problem := endings.stop_at_end(len(personas))) is not None:
        raise problem
    for tree in partial.values():
        files.append_line(path, dump(tree))
    if given_up or (directory / GIVEN_UP).exists():
        write_records(directory / GIVEN_UP, [given_up[case] for case in sorted(given_up)])


def read_given_up(directory: epath.Path) -> list[GivenUp]:
    """The cases in `directory` on which a server failed."""
    path = directory / GIVEN_UP
    return (
        [parse(GivenUp, line, f"{path} line {number}") for number, line in files.lines(path)] if path.exists() else []
    )
