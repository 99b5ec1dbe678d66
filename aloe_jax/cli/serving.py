"""`aloe serve` and `aloe chat`, as functions of their parsed arguments. Each imports what it needs when it runs."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from aloe_jax.cli import signals
from aloe_jax.cli.waiting import waiting
from aloe_jax.errors import InputError

if TYPE_CHECKING:
    from aloe_jax.serve.catalogue import Catalogue
    from aloe_jax.serve.chat.speaker import Speaker

WORLD = "world"  # the catalogue of the scripted personas


def serve(options: argparse.Namespace) -> None:
    """Serve models over the OpenAI protocol until a signal."""
    from functools import partial

    from aloe_jax.serve.local import load_engine
    from aloe_jax.serve.model_names import named_models
    from aloe_jax.serve.served_model import Loaded
    from aloe_jax.serve.server.http_server import check_free
    from aloe_jax.serve.server.server import serve_forever
    from aloe_jax.serve.server.settings import ServerSettings
    from aloe_jax.serve.trees_file import TreesFile

    signals.raise_interrupts()

    settings = ServerSettings(
        queue=options.queue,
        drain_seconds=options.drain,
        origins=tuple(options.allow_origin),
        hosts=tuple(options.allow_host),
        catalogue=_catalogue(options.catalogue),
    )
    trees = TreesFile(options.save_trees) if options.save_trees else None
    check_free(options.host, options.port)
    say = partial(print, flush=True)
    models = []
    for name, place in named_models(options.model, options.name):
        with waiting(f"loading {name}"):
            engine, chat = load_engine(
                place, slots=options.slots, context=options.context, tell=partial(say, f"{name}:")
            )
        if options.warm_up:
            with waiting(f"compiling the programs of {name}"):
                engine.warm_up()
            say(f"{name}: {engine.compiled}")
        models.append(Loaded(name, engine, chat))
    serve_forever(models, host=options.host, port=options.port, settings=settings, announce=say, trees=trees)


def chat(options: argparse.Namespace) -> None:
    """Talk with a model in the terminal."""
    from aloe_jax.serve.chat.belief import Beliefs
    from aloe_jax.serve.chat.lines import standard_lines
    from aloe_jax.serve.chat.loop import Chat
    from aloe_jax.serve.chat.memory import MemoryFile

    if not (options.url or options.model):
        raise InputError("there is nobody to talk with; name a model with --model=DIR, or a server with --url=ADDRESS")
    catalogue, memory = _catalogue(options.catalogue), MemoryFile(options.memory) if options.memory else None
    with _served(options) if options.url else _loaded(options) as speaker:
        beliefs = Beliefs(speaker, catalogue, memory)
        Chat(speaker, standard_lines(), sys.stdout, options.system, beliefs).run()


def _catalogue(name: str | None) -> Catalogue | None:
    """What the option names: a file, or the catalogue of the scripted world."""
    from aloe_jax.serve.catalogue import read_catalogue

    if name == WORLD:
        from data_gen.world.catalogue import texts

        return texts()
    return read_catalogue(name) if name else None


@contextlib.contextmanager
def _served(options: argparse.Namespace) -> Iterator[Speaker]:
    from aloe_jax.serve.chat.served_speaker import ServedSpeaker
    from aloe_jax.serve.client.exchange import api_key

    signals.raise_interrupts()
    fields = {"temperature": options.temperature, "top_p": options.top_p, "max_tokens": options.max_tokens}
    speaker = ServedSpeaker(options.url, options.model, fields, seed=options.seed, key=api_key("ALOE_API_KEY"))
    signals.end_input()
    yield speaker


@contextlib.contextmanager
def _loaded(options: argparse.Namespace) -> Iterator[Speaker]:
    from aloe_jax.decode.requests import Sampling
    from aloe_jax.serve.chat.engine_speaker import engine_speaker
    from aloe_jax.serve.local import load_engine

    signals.raise_interrupts()
    with waiting(f"loading {options.model}"):
        engine, chat = load_engine(options.model, slots=1, context=options.context)
    sampling = Sampling(temperature=options.temperature, top_p=options.top_p, max_tokens=options.max_tokens)
    with engine_speaker(engine, chat, options.model, sampling, options.seed) as speaker:
        signals.end_input()
        yield speaker
