"""Conversation trees as a long data generation leaves them, with made-up texts, for the viewer's tests.

`python tests/helpers/viewer_trees.py DIR [COUNT]` writes a run directory of them, to look at.
"""

import json
import random
import sys
from pathlib import Path

HASH = "75b3182b3a5a2af0f60d57fa1002a42242c0abc4d1954d1bdda925dbb5c7601e"
OPENERS = ("long day again", "ok listen", "you will laugh", "quick one", "so. the kiln", "honestly", "guess what")
MATTERS = (
    "the kiln cracked two bowls and mira says i should sell them as they are",
    "my shift moved to nights and the dog has opinions about it",
    "the piano came out of tune the week my sister visits",
    "i promised to run the quiz and have four questions so far",
    "the motorway is louder since they cut the hedge",
    "we planted beans where the shed was and they are winning",
)
REPLIES = (
    "Two cracked bowls are two honest bowls. What does Mira want for them?",
    "That sounds like a lot! I am here to help you with anything you need, just let me know how I can help.",
    "nights are rough. does the dog get a walk before or after you sleep?",
    "Call the tuner before the sister. Which keys stick?",
    "Perhaps four questions are enough if the fourth one is very long. What is the topic of the evening?",
    "As a language model I have no garden, but beans are a popular vegetable that many people enjoy growing in the",
    "A hedge does less for noise than it does for the mind. Have you tried sleeping on the other side of the house?",
)
FACTS = ("fires bowls at home", "has a sister called Mira", "works night shifts", "has a greyhound", "hosts a pub quiz",
         "lives beside a motorway", "grows beans", "inherited a piano")  # fmt: skip
TRAITS = ("writes in lower case", "likes at most two sentences", "likes dry humour", "dislikes exclamation marks")


def persona(number):
    """One of 331 profiles and 71 personalities, as in the paper's pools."""
    return {
        "id": f"p{number % 331:03d}-s{number % 71:02d}",
        "profile": f"p{number % 331:03d}",
        "personality": f"s{number % 71:02d}",
        "facts": [{"id": f"fact.{k}", "text": f"The user {what}."} for k, what in enumerate(FACTS)],
        "traits": [{"id": f"trait.{k}", "text": f"The user {what}."} for k, what in enumerate(TRAITS)],
    }


def reply(rng):
    """The fields of a sampled reply that do not depend on its place in the tree."""
    text = rng.choice(REPLIES)
    tokens = len(text) // 4 + 8  # with ids and log-probabilities, most of a line, as in a real file
    flags = ["truncated"] if text.endswith("the") else []
    value = rng.choice((1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5))
    return {
        "text": text,
        "token_ids": [rng.randrange(49152) for _ in range(tokens)],
        "logprobs": [-rng.expovariate(1.0) for _ in range(tokens)],
        "tokenizer": HASH,
        "scores": [{"judge": "scripted", "criterion": "overall", "value": value}],
        "value": value,
        "calls": [HASH],
        "flags": flags,
    }


def tree(number, pool, rng, turns=10, candidates=2, branch=False):
    """A tree of `turns` turns; with `branch`, the other reply of the second turn is continued for two turns as well."""
    nodes, preferences, path, parent = [], [], [], None
    shown = [f"fact.{k}" for k in range(len(FACTS))] + [f"trait.{k}" for k in range(len(TRAITS))]
    rng.shuffle(shown)

    def add_turn(turn, parent, mark=""):
        user = f"u{turn}{mark}"
        belief = [{"id": item, "node": f"u{k // 2 + 1}"} for k, item in enumerate(shown[: 2 * turn]) if k // 2 < turns]
        text = f"{rng.choice(OPENERS)}, {rng.choice(MATTERS)}"
        nodes.append({"id": user, "parent": parent, "role": "user", "text": text, "belief": belief if not mark else []})
        replies = []
        for k in range(candidates):
            condition = "plain" if k == candidates - 1 else "hinted"
            fields = {"id": f"a{turn}{mark}.{k + 1}", "parent": user, "role": "assistant", "condition": condition}
            said = [reply["text"] for reply in replies]
            replies.append(fields | rng.choice([reply for reply in pool if reply["text"] not in said]))
        nodes.extend(replies)
        for k, one in enumerate(replies):
            for other in replies[k + 1 :]:
                lead = one["value"] - other["value"]
                if lead:
                    chosen, rejected = (one, other) if lead > 0 else (other, one)
                    margin = min(0.98, abs(lead) / 3.2)
                    pair = {"chosen": chosen["id"], "rejected": rejected["id"], "margin": margin, "judge": "scripted"}
                    preferences.append(pair)
        return user, replies

    for turn in range(1, turns + 1):
        user, replies = add_turn(turn, parent)
        taken = rng.randrange(candidates)
        if branch and turn == 2:
            other = replies[(taken + 1) % candidates]["id"]
            for more in (3, 4):
                _, others = add_turn(more, other, "x")
                other = others[0]["id"]
        parent = replies[taken]["id"]
        path += [user, parent]
    return {
        "schema_version": 1,
        "id": f"c{number:05d}-{persona(number)['id']}",
        "persona": persona(number),
        "nodes": nodes,
        "preferences": preferences,
        "path": path,
    }


def write_trees(path, count, turns=10, candidates=2, seed=0):
    """Write `count` trees, of which every fifth has a branch; equal arguments give equal files."""
    rng = random.Random(seed)
    pool = [reply(rng) for _ in range(60)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            grown = tree(number, pool, rng, turns, candidates, branch=number % 5 == 0)
            file.write(json.dumps(grown, ensure_ascii=False) + "\n")
    return path


def write_run(root, count=12, turns=10, candidates=2, seed=0):
    """Write a run directory with trees, personas and some rejects."""
    write_trees(root / "conversations/trees.jsonl", count, turns, candidates, seed)
    (root / "personas").mkdir(exist_ok=True)
    with (root / "personas/personas.jsonl").open("w") as file:
        file.writelines(json.dumps(persona(number)) + "\n" for number in range(count))
    rejects = [("hint_leak", "assistant", 2), ("near_copy", "user", 3), ("refusal", "assistant", 2)]
    with (root / "conversations/rejects.jsonl").open("w") as file:
        for number in range(0, count, 4):
            name = f"c{number:05d}-{persona(number)['id']}"
            for reason, role, turn in rejects:
                text = f"a draft that fell for {reason}"
                record = {"conversation": name, "turn": turn, "role": role, "reason": reason, "text": text}
                file.write(json.dumps(record) + "\n")
    return root


if __name__ == "__main__":
    write_run(Path(sys.argv[1]), *map(int, sys.argv[2:]))
