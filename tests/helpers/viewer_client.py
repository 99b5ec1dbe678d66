"""Requests to the viewer's HTTP interface, and the files of a run directory that it reads."""

HOME = "http://127.0.0.1:8000"
ORIGIN = {"Origin": HOME}


def trees_file(run):
    return run / "conversations/trees.jsonl"


def append(path, text):
    """Append text to a file, as a run that works does."""
    with path.open("a") as file:
        file.write(text)


def small_tree(name="t", **more):
    """Two turns; the judge prefers the first reply of the first, and saw no difference in the second."""
    score = {"scores": [{"judge": "j", "criterion": "overall", "value": 3.0}]}
    nodes = [
        {"id": "u1", "parent": None, "role": "user", "text": "good morning"},
        {"id": "a", "parent": "u1", "role": "assistant", "text": "good morning to you", **score},
        {"id": "b", "parent": "u1", "role": "assistant", "text": "hm", "flags": ["truncated"], **score},
        {"id": "u2", "parent": "a", "role": "user", "text": "and now"},
        {"id": "c", "parent": "u2", "role": "assistant", "text": "now we talk", **score},
        {"id": "d", "parent": "u2", "role": "assistant", "text": "now we rest", **score},
        {"id": "e", "parent": "u2", "role": "assistant", "text": "unjudged"},
    ]
    preferences = [{"chosen": "a", "rejected": "b", "margin": 0.5, "judge": "j"}]
    return {"schema_version": 1, "id": name, "nodes": nodes, "preferences": preferences, "path": ["u1", "a"], **more}


def post(client, headers=ORIGIN, **body):
    """The response to a label of the small tree."""
    body = {"conversation": "t", "first": "a", "second": "b", "label": "first", "labeller": "ann"} | body
    return client.post("/api/labels", json=body, headers=headers)
