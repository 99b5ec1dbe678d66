"""The calls of one step end together."""

import asyncio

import pytest

from data_gen.concurrency import gather_all


def test_results_are_in_order():
    async def one(number):
        await asyncio.sleep(0.01 / (1 + number))
        return number

    assert asyncio.run(gather_all(one(number) for number in range(4))) == [0, 1, 2, 3]


def test_one_that_fails_ends_the_others():
    ended = []

    async def wait():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def fail():
        await asyncio.sleep(0)
        raise ConnectionError("gone")

    async def run():
        with pytest.raises(ConnectionError, match="gone"):
            await gather_all([wait(), fail(), wait()])
        assert ended == [True, True]

    asyncio.run(run())
