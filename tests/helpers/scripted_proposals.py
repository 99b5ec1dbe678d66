"""A scripted model that proposes people: a pure function of the messages, good and bad answers mixed."""

import asyncio
import hashlib
import json
import random

SYLLABLES = ("ba", "ko", "ti", "mur", "len", "do", "sa", "ri", "vo", "pek", "nu", "gra")


def sentence(rng):
    """Five invented words, so that people differ unless they are made alike."""
    made = ["".join(rng.choices(SYLLABLES, k=3)) for _ in range(5)]
    return f"They {' '.join(made)}."


def varied(item):
    """The same sentence with its words in another order: no run of five words in common, the same to a word count."""
    words = item.removeprefix("They ").removesuffix(".").split()
    return f"They {' '.join(words[2:] + words[:2])}."


def key_of(messages):
    return hashlib.sha256(json.dumps([message.content for message in messages]).encode()).hexdigest()


def scripted_answer(messages, proposals=4):
    """Some answers are refusals. In the others, some people lack items and some repeat the person before them: in
    capitals, with half of the items new, or with the words moved."""
    rng = random.Random(key_of(messages))
    if rng.random() < 0.15:
        return "I cannot help with that."
    people = []
    for _ in range(proposals):
        items = [sentence(rng) for _ in range(4 if rng.random() < 0.1 else 8)]
        if people and len(people[-1]) == len(items) == 8 and rng.random() < 0.4:
            again = (
                [item.upper() for item in people[-1]],
                people[-1][:4] + items[:4],
                [varied(item) for item in people[-1]],
            )
            items = rng.choice(again)
        people.append(items)
    return json.dumps({"people": [{"items": items} for items in people]})


class ScriptedModel:
    """Answers after as many turns of the event loop as `order` determines, so that answers overtake each other."""

    def __init__(self, order, answer=scripted_answer):
        self.rng, self.answer = random.Random(order), answer
        self.asked, self.answered, self.seeds = [], [], []
        self.at_once = self.most_at_once = self.cancelled = 0

    async def __call__(self, messages, schema, seed):
        assert schema["properties"]["people"]["minItems"] == schema["properties"]["people"]["maxItems"]
        self.asked.append(key_of(messages))
        self.seeds.append(seed)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            for _ in range(self.rng.randint(0, 30)):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.at_once -= 1
        self.answered.append(key_of(messages))
        return self.answer(messages)
