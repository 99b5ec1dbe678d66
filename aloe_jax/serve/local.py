"""Engines of our own: behind a client for the stages of a run, and bare for `aloe serve` and `aloe chat`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext

from jax.sharding import Mesh

from aloe_jax import memory
from aloe_jax.decode.constraint import Grammar
from aloe_jax.decode.engine import Engine
from aloe_jax.decode.executor import Executor, shape_for
from aloe_jax.decode.relay import Follower, Relay
from aloe_jax.decode.settings import DecodeSettings
from aloe_jax.errors import AloeError
from aloe_jax.hub.chat_model import read_chat_model
from aloe_jax.hub.load import load_params
from aloe_jax.hub.source import resolve_model
from aloe_jax.models import decoder
from aloe_jax.ops.attention import platform_of
from aloe_jax.parallel import hosts
from aloe_jax.parallel.mesh import make_mesh
from aloe_jax.run.model import chat_model
from aloe_jax.run.stage import Run
from aloe_jax.serve.in_process import InProcessClient
from aloe_jax.serve.settings import ServeSettings
from aloe_jax.train.sources import find_model
from aloe_jax.tree.template import ChatFormat


@contextmanager
def stage_client(run: Run, name: str, identity: str = "") -> Iterator[InProcessClient]:
    """A client of an engine for the model `name` (as `find_model` takes it), over the devices of all processes; it
    lives as long as the block. On several processes the others are in `assist` meanwhile.

    `identity` is the hash of all that decides the answers, for the ids of calls. Raises InputError if the mesh does not
    fit, and AloeError if the engine fails while decoding.
    """
    with stage_engine(run, name) as (engine, chat), client_of(engine, chat, name, identity) as client:
        yield client


@contextmanager
def stage_engine(run: Run, name: str) -> Iterator[tuple[Engine, ChatFormat]]:
    """An engine for the model `name` and its chat format, over the devices of all processes, as in `stage_client`; it
    is closed at the end of the block. Raises InputError if the mesh does not fit."""
    relay = Relay() if hosts.is_multiprocess() else None
    with relay.opening(name) if relay else nullcontext():
        executor, chat = _stage_executor(run, name)
    engine = _engine(executor, chat, relay)
    try:
        yield engine, chat
    finally:
        engine.close()
    told = ", ".join(f"{count:,} by process {number}" for number, count in sorted(engine.decoded.items()))
    by_process = f": {told}" if relay else ""
    run.progress.line(
        f"decoded {sum(engine.decoded.values()):,} tokens with the model {name}{by_process}; {engine.compiled}"
    )


@contextmanager
def engine_everywhere(run: Run, name: str) -> Iterator[tuple[Engine | Follower, ChatFormat]]:
    """`stage_engine` in a stage that runs on all processes, which open it and close it together: the engine on the
    primary process, and on the others what follows it from one `hosts.END` to the next."""
    if hosts.is_primary():
        with stage_engine(run, name) as (engine, chat):
            hosts.send(hosts.END)
            yield engine, chat
        hosts.send(hosts.END)
        return
    with closing(_follower(run)) as follower:
        follower.follow()
        yield follower, chat_model(run, find_model(run, name).folder)[1]
        follower.follow()


def assist(run: Run) -> None:
    """Decode on this process what the primary process decodes in a stage, until that is over."""
    with closing(_follower(run)) as follower:
        follower.follow()
    memory.release()


def _follower(run: Run) -> Follower:
    return Follower(lambda name: _stage_executor(run, name)[0])


@contextmanager
def client_of(engine: Engine, chat: ChatFormat, name: str, identity: str = "") -> Iterator[InProcessClient]:
    """A client of an engine, named `name`, that lives as long as the block; the engine is closed at its end. Raises
    AloeError if the engine fails while decoding."""
    # The engine queues what does not fit into its slots; twice as many calls keep it busy.
    client = InProcessClient(engine, chat, name, concurrency=2 * engine.slots, identity=identity)
    try:
        with client:
            yield client
    except Exception:
        if client.failure is not None:
            raise AloeError(f"the decoding engine failed: {client.failure}") from client.failure
        raise
    finally:
        engine.close()


def load_engine(
    source: str, *, slots: int, context: int, tell: Callable[[str], None] | None = None
) -> tuple[Engine, ChatFormat]:
    """An engine over all devices, and the chat format, for a model named as `resolve_model` takes it. The context is at
    most the model's own. `tell` is given what it takes of memory. Raises InputError for a model that cannot be
    loaded."""
    folder = resolve_model(source)
    model, chat = read_chat_model(folder)
    mesh = make_mesh()
    params = load_params(folder, model, decoder.shardings(model, mesh))
    return engine_of(model, params, chat, mesh, ServeSettings(slots=slots, context=context), tell), chat


def engine_of(
    model: decoder.ModelConfig,
    params: decoder.Params,
    chat: ChatFormat,
    mesh: Mesh,
    serve: ServeSettings,
    tell: Callable[[str], None] | None = None,
) -> Engine:
    """An engine for loaded parameters, with the usual settings of decoding. `tell` is given what it takes of memory."""
    executor = _executor(model, params, chat, DecodeSettings(), serve, mesh)
    if tell is not None:
        tell(executor.memory)
    return _engine(executor, chat)


def _stage_executor(run: Run, name: str) -> tuple[Executor, ChatFormat]:
    settings, source = run.section("decode", DecodeSettings), find_model(run, name)
    mesh, (model, chat) = settings.build(), chat_model(run, source.folder)
    with run.progress.doing(f"loading the model {name}"):
        params = source.load(mesh, model, run.progress.line)
        return _executor(model, params, chat, settings, run.section("serve", ServeSettings), mesh), chat


def _executor(
    model: decoder.ModelConfig,
    params: decoder.Params,
    chat: ChatFormat,
    settings: DecodeSettings,
    serve: ServeSettings,
    mesh: Mesh,
) -> Executor:
    shape = shape_for(serve.slots, min(serve.context, model.context), mesh, settings.pages or None)
    return Executor(
        model,
        params,
        shape,
        end_of_turn=chat.tokenizer.end_of_turn_ids,
        vocab=chat.tokenizer.vocab_size,
        mesh=mesh,
        dtype=settings.dtype_on(platform_of(mesh)),
    )


def _engine(executor: Executor, chat: ChatFormat, relay: Relay | None = None) -> Engine:
    return Engine.of(executor, grammar=Grammar(chat.tokenizer), relay=relay)
