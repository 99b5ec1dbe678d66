"""Who plays in a round: the policy answers, and everybody else is scripted or a model behind a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from aloe_jax.run.stage import Run
from aloe_jax.serve.client.interface import ChatClient
from data_gen.calls.connections import Cast
from data_gen.calls.store import Store
from data_gen.online.round_settings import OnlineSettings
from data_gen.players.assemble import assemble, game_roles, model_roles, player_of, role_clients
from data_gen.players.player import role_of
from data_gen.roles import Judge, Responder, Roles

JUDGE = "judge"
T = TypeVar("T")


@dataclass(frozen=True)
class Players:
    """The other roles, and the event loop in which all play."""

    run: Run
    cast: Cast
    runner: asyncio.Runner
    called: tuple[str, ...]

    def play(self, client: ChatClient, policy: Responder, game: Callable[[Roles], Coroutine[Any, Any, T]]) -> T:
        """The result of a game in which `policy` answers, through `client`. What it samples is not kept under the
        call's name: an answer that was stored beside other neighbours would change the bits of a batch."""

        async def played() -> T:
            async with client:
                roles = game_roles(self.run, self.cast, self.called)
                return await game(replace(roles, responder=policy))

        return self.runner.run(played())

    def judge_again(self, game: Callable[[Judge], Coroutine[Any, Any, T]]) -> T:
        """The result of a game of the judge alone, whose model is asked anew: its stored answers do not count."""
        recorded = {seat: replace(chat, again=role_of(seat) == "judge") for seat, chat in self.cast.recorded.items()}
        return self.runner.run(game(player_of(self.run, replace(self.cast, recorded=recorded), "judge", "judge")))


def others(settings: OnlineSettings) -> tuple[str, ...]:
    """The roles beside the policy: no judge where its score has no weight."""
    return ("user", "inducer", *((JUDGE,) if settings.rollout.reward.score else ()))


@contextmanager
def players(run: Run, settings: OnlineSettings, directory: Path) -> Iterator[Players]:
    """The players of a run's rounds; what servers answer is stored in `directory`."""
    called = model_roles(run, others(settings))
    with ExitStack() as stack:
        store = stack.enter_context(Store(directory)) if called else None
        clients = stack.enter_context(role_clients(run, called))
        runner = stack.enter_context(asyncio.Runner())
        opened = AsyncExitStack()
        stack.callback(lambda: runner.run(opened.aclose()))
        cast = runner.run(opened.enter_async_context(assemble(run, clients, store)))
        for warning in cast.warnings:
            run.progress.line(f"online: {warning}")
        yield Players(run, cast, runner, others(settings))
