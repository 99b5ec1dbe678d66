"""Several servers of one model: who takes a call, how much each is given, what happens when one is away."""

import asyncio
import contextlib

import pytest

from aloe_jax.errors import ResumableError
from aloe_jax.serve.client import endpoint
from aloe_jax.serve.client.client import Client
from aloe_jax.serve.client.limits import AdaptiveLimit
from aloe_jax.tree.schema import Message
from helpers.fake_server import MODEL, FakeServer, serving
from helpers.scripted_server import quick


def hello(number=0):
    return [Message(role="user", content=f"hello {number}")]


@contextlib.asynccontextmanager
async def client_of(*servers, **settings):
    async with serving(*servers) as urls, Client(urls, MODEL, **{"timing": quick(), **settings}) as client:
        yield client


def test_limit_grows_while_it_is_used_and_halves_once_a_round():
    limit = AdaptiveLimit(4, 16)
    rounds = [limit.enter() for _ in range(4)]
    assert not limit.free
    for _ in rounds:
        limit.answered()  # slow start: one more for each answer while the limit is used up
        limit.leave()
    assert limit.value == 5.0  # of the four answers only the first found the limit used up
    sent = [limit.enter() for _ in range(5)]
    for before in sent:
        limit.refused(before)
        limit.leave()
    assert limit.value == 2.5  # five refusals of one round are one
    both = [limit.enter() for _ in range(2)]
    limit.answered()
    assert limit.value == pytest.approx(2.5 + 1 / 2.5)  # additive from now on
    limit.refused(sent[0])
    assert limit.value == pytest.approx(2.9)  # an old refusal
    limit.refused(both[0])
    assert limit.value == pytest.approx(1.45)


def test_limit_stays_between_one_and_the_most():
    limit = AdaptiveLimit(2, 3)
    for _ in range(20):
        while limit.free:
            limit.enter()
        limit.answered()
    assert limit.value == 3.0
    for _ in range(20):
        limit.refused(limit.enter())
    assert limit.value == 1.0


def test_calls_spread_over_servers():
    first, second = FakeServer(latency=0.002), FakeServer(latency=0.002)

    async def run():
        async with client_of(first, second, concurrency=32) as client:
            await asyncio.gather(*(client.chat(hello(number), seed=number) for number in range(200)))

    asyncio.run(run())
    assert first.paid.total() + second.paid.total() == 200
    assert min(first.paid.total(), second.paid.total()) > 60


def test_a_conversation_stays_with_its_server():
    first, second = FakeServer(), FakeServer()

    async def run():
        async with client_of(first, second) as client:
            for number in range(20):
                before = first.paid.total()
                for seed in range(3):
                    await client.chat(hello(number), seed=seed, affinity=f"conversation {number}")
                assert first.paid.total() - before in (0, 3)

    asyncio.run(run())
    assert min(first.paid.total(), second.paid.total()) > 0


def test_refusals_for_load_lower_what_a_server_is_given():
    full = FakeServer(latency=0.005)
    answer = full.complete

    async def crowded(request):
        if full.under_way >= 4:
            return endpoint_refusal()
        return await answer(request)

    def endpoint_refusal():
        from aiohttp import web

        full.struck["429"] += 1
        return web.json_response({"error": {"message": "full"}}, status=429)

    full.complete = crowded

    async def run():
        async with client_of(full, concurrency=64, retries=1000) as client:
            await asyncio.gather(*(client.chat(hello(number), seed=number) for number in range(300)))
            return client.endpoints[0].limit.value

    value = asyncio.run(run())
    assert full.paid.total() == 300
    assert 1 <= value <= 12  # four fit; the limit swings around that
    assert full.struck["429"] < 300  # most calls are not refused


def test_a_server_that_is_away_is_left_alone_until_it_answers_a_probe():
    first, second = FakeServer(latency=0.001), FakeServer(latency=0.001)

    async def run():
        async with client_of(first, second, concurrency=8, retries=50) as client:
            first.down = True
            await asyncio.gather(*(client.chat(hello(number), seed=number) for number in range(100)))
            away = client.endpoints[0]
            assert away.down
            assert away.retries < 40  # some eight were under way when it went; no hundred calls ran into it
            first.down = False
            for _ in range(1000):
                if not away.down:
                    break
                await asyncio.sleep(0.002)
            assert not away.down
            await asyncio.gather(*(client.chat(hello(number), seed=number) for number in range(100, 200)))

    asyncio.run(run())
    assert first.paid.total() > 0
    assert second.paid.total() >= 100


def test_when_all_servers_are_gone_for_good_the_run_can_be_resumed():
    server = FakeServer()
    server.down = True

    async def run():
        async with client_of(server, concurrency=4, retries=1000, patience=30.0) as client:
            await asyncio.gather(*(client.chat(hello(number), seed=number) for number in range(20)))

    with pytest.raises(ResumableError, match=r"cannot be reached .* 30 seconds"):
        asyncio.run(run())


def test_one_that_comes_back_takes_up_what_waits():
    server = FakeServer()
    server.down = True

    async def run():
        async with client_of(server, concurrency=4, retries=50, patience=1e9) as client:
            calls = [asyncio.create_task(client.chat(hello(number), seed=number)) for number in range(20)]
            while not client.endpoints[0].down:
                await asyncio.sleep(0.001)
            server.down = False
            await asyncio.gather(*calls)

    asyncio.run(run())
    assert server.paid.total() == 20


def test_a_server_without_n_or_system_messages_is_asked_in_its_own_way():
    server = FakeServer()

    async def run():
        async with client_of(server) as client:
            plain = [Message(role="system", content="be brief"), Message(role="user", content="hi")]
            client.endpoints[0].abilities = endpoint.Abilities(n=False, system=False)
            singles = await client.chat(plain, seed=3, n=3)
            merged = [Message(role="user", content="be brief\n\nhi")]
            return singles, [await client.chat(merged, seed=3 + number) for number in range(3)]

    singles, expected = asyncio.run(run())
    assert [each.text for each in singles] == [answer.text for [answer] in expected]
    assert len({each.text for each in singles}) == 3
