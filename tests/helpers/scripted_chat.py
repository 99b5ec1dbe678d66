"""A chat whose answers are a function of the request, and answers of known probabilities."""

import math

from aloe_jax.serve.client.answers import Answer
from aloe_jax.tree.schema import Item, Persona

PERSONA = Persona(
    id="p1",
    profile="p",
    personality="q",
    facts=(Item(id="fact1", text="They keep bees."), Item(id="fact2", text="They fear lifts.")),
    traits=(Item(id="trait1", text="They hate small talk."),),
)


class Scripted:
    """Answers by a function of the request, and records it."""

    def __init__(self, reply):
        self.reply, self.asked = reply, []

    async def chat(self, messages, *, affinity="", **how):
        self.asked.append((list(messages), affinity, how))
        found = self.reply(messages, how)
        return [found if isinstance(found, Answer) else Answer(found, call=f"call{len(self.asked)}")]


def answer_of(shares):
    """The answer of a model whose next token is drawn with these probabilities: the likeliest one."""
    likeliest = max(shares, key=shares.get)
    top = (tuple((token, math.log(share)) for token, share in shares.items()),)
    return Answer(likeliest, "stop", None, None, None, "call", tokens=(likeliest,), top=top)
