"""A chat server that plays a script, and a client against it whose pauses take no time."""

import asyncio
import contextlib

from aiohttp import web

from aloe_jax.serve.client.client import Client, Timing
from aloe_jax.tree.schema import Message

HELLO = [Message(role="user", content="hello")]
GOOD = {"choices": [{"message": {"content": "hi"}}], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}


class Pauses(list):
    """Records pauses instead of waiting; jitter takes the upper end, so that pauses are known."""

    def timing(self, meanwhile=None):
        async def sleep(seconds):
            self.append(seconds)
            if meanwhile is not None:
                await meanwhile()

        return Timing(sleep=sleep, now=lambda: 1_000_000.0 + sum(self), jitter=lambda low, high: high)


class Script:
    """A server that plays one step a request: a status, a response maker, or None to drop the connection. The last step
    repeats."""

    def __init__(self, *steps):
        self.steps = list(steps)
        self.bodies = []
        self.headers = []
        self.port = 0

    async def _handle(self, request):
        self.bodies.append(await request.json())
        self.headers.append(request.headers)
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if step is None:
            request.transport.abort()
            return web.Response()
        if isinstance(step, dict):
            return web.json_response(step)
        if isinstance(step, int):
            return web.json_response({"error": {"message": f"scripted {step}"}}, status=step)
        return await step(request)

    @contextlib.asynccontextmanager
    async def serving(self):
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._handle)
        # Handlers that never answer must not delay the end of the test.
        runner = web.AppRunner(app, shutdown_timeout=0.01)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        self.port = runner.addresses[0][1]
        try:
            yield f"http://127.0.0.1:{self.port}/v1"
        finally:
            await runner.cleanup()


def answer(status, headers=None, text="{}"):
    async def respond(request):
        return web.Response(status=status, headers=headers, text=text)

    return respond


def talk(script, messages=HELLO, *, pauses=None, calls=1, client=None, **arguments):
    """Answers and client after `calls` calls one after the other against the script."""

    async def run():
        async with script.serving() as url:
            settings = {"timing": (pauses if pauses is not None else Pauses()).timing(), **(client or {})}
            async with Client(url, "tiny", **settings) as connection:
                answers = [await connection.chat(messages, seed=1, **arguments) for _ in range(calls)]
            return answers[-1], connection

    return asyncio.run(run())


def quick():
    """A timing whose pauses are turns of the event loop; time goes on by what would have been waited."""
    waited = [0.0]

    async def sleep(seconds):
        waited[0] += seconds
        await asyncio.sleep(0.001)

    return Timing(sleep=sleep, now=lambda: waited[0], jitter=lambda low, high: high)
