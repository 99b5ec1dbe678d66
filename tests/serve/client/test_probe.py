"""What a server can do, found out and not believed."""

import asyncio

import pytest

from aloe_jax.errors import InputError
from aloe_jax.serve.client import constraints
from aloe_jax.serve.client.answers import Answer
from aloe_jax.serve.client.client import Client
from aloe_jax.serve.client.probe import missing, probe
from aloe_jax.serve.server.server import Server
from helpers.fake_server import MODEL, FakeServer, serving
from helpers.scripted_server import quick


def probed(server, model=MODEL):
    async def run():
        async with serving(server) as url, Client(url, model, timing=quick()) as client:
            [abilities] = (await probe(client)).values()
            assert client.endpoints[0].abilities == abilities
            return abilities

    return asyncio.run(run())


def test_a_good_server():
    found = probed(FakeServer())
    assert (found.choice, found.schema_form, found.models) == ("structured_outputs", "response_format", (MODEL,))
    assert (found.logprobs, found.top_logprobs, found.n, found.seed, found.system) == (True,) * 5
    assert found.ignored == ()
    assert missing(found) == []


def test_a_server_that_silently_ignores_constraints_is_noticed():
    found = probed(FakeServer(ignores=True))
    assert (found.choice, found.schema_form) == (None, None)
    assert "choice as structured_outputs" in found.ignored
    assert "schema as response_format" in found.ignored
    told = " ".join(missing(found))
    assert "keeps to no choice" in told
    assert "silently ignores" in told


def test_a_struggling_server_is_probed_all_the_same():
    faults = ("429", "500", "torn JSON", "dropped connection", "429 with Retry-After")
    assert probed(FakeServer(faults=faults, share=0.4)) == probed(FakeServer())


def test_our_own_server(engine, chat_format):
    with Server(engine, chat_format, "tiny") as server:

        async def run():
            async with Client(server.base_url, "tiny") as client:
                return (await probe(client, ("logprobs", "n", "seed", "system")))[server.base_url]

        found = asyncio.run(run())
    assert (found.logprobs, found.n, found.seed, found.system) == (True,) * 4


def test_a_wrong_key_is_told_without_it(monkeypatch):
    monkeypatch.setenv("ALOE_API_KEY", "sesame")
    with pytest.raises(InputError, match="ALOE_API_KEY") as caught:
        probed(FakeServer(key="another"))
    assert "sesame" not in str(caught.value)


def answered(text, tokens=None, top=None):
    return Answer(text, "stop", None, None, None, "call", tokens=tokens, top=top)


def test_probabilities_of_choices_are_scaled_to_one():
    """exp(-0.5) = 0.607 and exp(-1.5) = 0.223 of an unconstrained distribution: 0.731 and 0.269 of the two."""
    top = ((("1", -0.5), (" 2", -1.5), ("Well", -2.0)),)
    found = constraints.probabilities(answered("1", ("1",), top), ("1", "2"))
    assert found == pytest.approx({"1": 0.7311, "2": 0.2689}, abs=1e-4)


def test_probabilities_of_a_choice_in_quotes_are_read_behind_the_quote():
    top = ((('"', -0.01),), (("yes", -0.1), ("no", -2.4)))
    found = constraints.probabilities(answered('"yes"', ('"', "yes"), top), ("yes", "no"))
    assert found["yes"] == pytest.approx(0.9089, abs=1e-4)  # 1 / (1 + exp(-2.3))


def test_tokens_that_begin_several_choices_tell_nothing():
    top = ((("re", -0.1), ("reply", -3.0)),)
    assert constraints.probabilities(answered("reply b", ("re",), top), ("reply a", "reply b")) == {
        "reply a": 0.0,
        "reply b": 1.0,
    }


def test_without_probabilities_the_choice_is_certain_and_anything_else_unreadable():
    assert constraints.probabilities(answered(" 2\n"), ("1", "2")) == {"1": 0.0, "2": 1.0}
    assert constraints.probabilities(answered("the second"), ("1", "2")) is None


@pytest.mark.parametrize("form", constraints.CHOICE_FORMS)
def test_every_form_names_every_choice(form):
    text = str(constraints.CHOICE_FORMS[form](["left", "right"]))
    assert "left" in text
    assert "right" in text
