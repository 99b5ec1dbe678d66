"""Constrained requests: the text is always an allowed one, the probabilities are those of a plain masked softmax, and
nobody beside them notices."""

import dataclasses
import json
import re

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from aloe_jax.decode.constraint import Grammar
from aloe_jax.decode.engine import Engine
from aloe_jax.decode.programs import BURST
from aloe_jax.decode.requests import MAX_CONSTRAINT, Constraint, ConstraintError, Request, Sampling
from aloe_jax.tree.tokenizer import Tokenizer
from helpers.tiny import MODEL, params, path_log_prob
from helpers.tree_samples import tokenizer

TOKENIZER = tokenizer()
PROMPT = tuple(TOKENIZER.encode("Which one is it?"))
HOT = Sampling(temperature=1.5, max_tokens=60)
CHOICES = Constraint(choices=("yes", "no", "maybe so", 'say "é\n\\😀"'))
SCHEMA = {
    "type": "object",
    "properties": {
        "facts": {"type": "array", "items": {"enum": ["f1", "f2", "f10"]}, "maxItems": 3},
        "sure": {"type": "boolean"},
        "name": {"type": "string", "pattern": "^[a-z]{1,4}$"},
        "score": {"type": "integer", "minimum": 1, "maximum": 5},
    },
    "required": ["facts", "sure", "name"],
    "additionalProperties": False,
}
FREE = [
    Request(PROMPT, Sampling(max_tokens=2 * BURST + 3), seed=1, n=2),
    Request(PROMPT[:3], Sampling(temperature=0.7, top_p=0.9, top_k=30, max_tokens=30), seed=2),
    Request(PROMPT[:5], Sampling(temperature=0.0, max_tokens=BURST), seed=3),
]


def engine(grammar):
    return Engine(
        MODEL,
        params(),
        slots=3,
        context=100,
        end_of_turn=TOKENIZER.end_of_turn_ids,
        vocab=TOKENIZER.vocab_size,
        grammar=grammar,
    )


@pytest.fixture(scope="module")
def shared():
    return engine(Grammar(TOKENIZER))


@pytest.fixture(scope="module")
def without_z(tmp_path_factory):
    """A tokenizer of single bytes that has none for the letter z."""
    folder = tmp_path_factory.mktemp("without_z")
    alphabet = sorted(set(pre_tokenizers.ByteLevel.alphabet()) - {"z"})
    backend = tokenizers.Tokenizer(models.BPE(vocab={symbol: at for at, symbol in enumerate(alphabet)}, merges=[]))
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|end|>"])
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>", "chat_template": "x"}))
    return Tokenizer.load(folder)


def requests(constraint, count, sampling=HOT):
    return [Request(PROMPT, sampling, seed=seed, constraint=constraint) for seed in range(count)]


def texts(completions):
    """Of replies that came to their end."""
    assert {completion.finish_reason for completion in completions} == {"stop"}
    assert all(completion.token_ids[-1] in TOKENIZER.end_of_turn_ids for completion in completions)
    return [TOKENIZER.decode(completion.token_ids[:-1], skip_special=False) for completion in completions]


def tokens_that_begin(*allowed):
    """By text, one token after the other."""
    pieces = {token: TOKENIZER.decode([token], skip_special=False) for token in range(TOKENIZER.vocab_size)}
    return {token for token, piece in pieces.items() if piece and any(text.startswith(piece) for text in allowed)}


def test_a_reply_is_one_of_the_choices(shared):
    found = [text for [one] in shared.generate(requests(CHOICES, 60)) for text in texts([one])]
    assert set(found) == set(CHOICES.choices)
    cold = requests(CHOICES, 1, Sampling(temperature=0.0, max_tokens=60))
    assert set(texts(shared.generate(cold)[0])) <= set(CHOICES.choices)


def test_a_choice_may_begin_another_or_be_empty(shared):
    nested = Constraint(choices=("", "a", "ab", "abcd"))
    [completions] = shared.generate([Request(PROMPT, HOT, n=100, constraint=nested)])
    assert set(texts(completions)) <= set(nested.choices)
    assert {"", "a"} <= set(texts(completions))  # where the text may end and may go on, both happen


def test_a_reply_is_compact_json_of_the_schema(shared):
    constraint = Constraint.json(SCHEMA)
    for [completion] in shared.generate(requests(constraint, 30)):
        [text] = texts([completion])
        value = json.loads(text)
        assert json.dumps(value, separators=(",", ":")) == text
        assert set(value) - {"score"} == {"facts", "sure", "name"}
        assert len(value["facts"]) <= 3
        assert set(value["facts"]) <= {"f1", "f2", "f10"}
        assert isinstance(value["sure"], bool)
        assert re.fullmatch("[a-z]{1,4}", value["name"])
        assert value.get("score", 1) in range(1, 6)


def test_a_reply_matches_the_regex(shared):
    pattern = r"[A-D]: (10|[0-9])/10( \(.{3,5}\))?"
    [completions] = shared.generate([Request(PROMPT, HOT, n=20, constraint=Constraint(regex=pattern))])
    assert all(re.fullmatch(pattern, text) for text in texts(completions))


def test_a_reply_cut_by_its_limit_is_a_beginning(shared):
    short = Sampling(temperature=1.5, max_tokens=2)
    for [completion] in shared.generate(requests(Constraint(choices=("maybe so",)), 3, short)):
        assert completion.finish_reason == "length"
        assert "maybe so".startswith(TOKENIZER.decode(completion.token_ids))


def test_probabilities_of_choices_are_those_of_a_masked_softmax(shared):
    choices = ("yes", "no", "maybe so")
    begin = sorted(tokens_that_begin(*choices))
    direct = {token: float(path_log_prob(params(), [*PROMPT, token], 1)) for token in begin}
    request = Request(
        PROMPT, Sampling(max_tokens=30, top_logprobs=20), seed=5, n=200, constraint=Constraint(choices=choices)
    )
    [completions] = shared.generate([request])
    firsts = {completion.top[0] for completion in completions}
    [first] = firsts
    assert [token for token, _ in first] == sorted(begin, key=direct.get, reverse=True)
    np.testing.assert_allclose([value for _, value in first], [direct[token] for token, _ in first], atol=1e-4)

    def chances(log_probs):
        """Of each choice, from its first tokens."""
        mass = [
            sum(np.exp(value) for token, value in log_probs if choice.startswith(TOKENIZER.decode([token])))
            for choice in choices
        ]
        return np.array(mass) / sum(mass)

    expected = chances(direct.items())
    np.testing.assert_allclose(chances(first), expected, rtol=1e-3)
    found = texts(completions)
    shares = np.array([found.count(choice) for choice in choices]) / len(found)
    # Five standard deviations of a binomial share.
    assert (np.abs(shares - expected) <= 5 * np.sqrt(expected * (1 - expected) / len(found))).all()


def test_log_probs_are_those_of_the_unconstrained_model(shared):
    [[completion]] = shared.generate([Request(PROMPT, HOT, seed=4, constraint=Constraint.json(SCHEMA))])
    whole = float(path_log_prob(params(), [*PROMPT, *completion.token_ids], len(completion.token_ids)))
    assert sum(completion.log_probs) == pytest.approx(whole, abs=1e-4 * len(completion.token_ids))


def assert_same(found, expected):
    """Equal tokens and reasons, and log-probabilities that differ by rounding alone."""
    for one, other in zip(found, expected, strict=True):
        assert (one.token_ids, one.finish_reason) == (other.token_ids, other.finish_reason)
        np.testing.assert_allclose(one.log_probs, other.log_probs, atol=5e-5)


def test_nobody_notices_a_constrained_neighbour(shared):
    bound = [*requests(CHOICES, 4), *requests(Constraint.json(SCHEMA), 4)]
    alone = {request: shared.generate([request])[0] for request in [*bound, *FREE]}
    mixed = [bound[0], FREE[0], bound[4], FREE[1], *bound[1:4], FREE[2], *bound[5:]]
    for request, found in zip(mixed, shared.generate(mixed), strict=True):
        assert_same(found, alone[request])


def test_most_probable_tokens_change_nothing_else(shared):
    curious = [dataclasses.replace(one, sampling=dataclasses.replace(one.sampling, top_logprobs=3)) for one in FREE]
    for plain, more in zip(shared.generate(FREE), shared.generate(curious), strict=True):
        assert [dataclasses.replace(completion, top=()) for completion in more] == plain


def test_a_cancelled_request_leaves_its_neighbours_in_long_bursts(shared):
    dropped = shared.submit(requests(Constraint.json(SCHEMA), 1)[0])
    kept = shared.submit(FREE[0])
    found = dict(shared.step())
    shared.cancel(dropped)
    steps = 0
    while shared.busy:
        found.update(shared.step())
        steps += 1
    assert set(found) == {kept}
    assert_same(found[kept], shared.generate([FREE[0]])[0])
    assert steps <= 3  # at most 2 * BURST + 2 tokens were left


@pytest.mark.parametrize(
    ("constraint", "reason"),
    [
        (Constraint(regex="(ab"), "the regex: unclosed group"),
        (Constraint(regex="(?=a)b"), "the regex: look-around"),
        (Constraint.json({"type": "strange"}), "the JSON schema: Invalid type: strange"),
        (Constraint.json({"type": "integer", "minimum": 3, "maximum": 2}), "the JSON schema: Unsatisfiable"),
        (Constraint.json({"type": "array", "uniqueItems": True}), "the JSON schema: Unimplemented keys"),
        (Constraint(json_schema="{"), "the JSON schema: "),
    ],
)
def test_what_cannot_be_kept_is_refused_before_it_waits(shared, constraint, reason):
    with pytest.raises(ConstraintError, match=re.escape(reason)) as caught:
        shared.submit(Request(PROMPT, constraint=constraint))
    assert "\n" not in str(caught.value)
    assert not shared.busy


def test_a_constraint_is_one_thing():
    with pytest.raises(ConstraintError, match="one of choices, regex and json_schema"):
        Constraint(choices=("a",), regex="a")
    with pytest.raises(ConstraintError, match="one of choices, regex and json_schema"):
        Constraint()
    with pytest.raises(ConstraintError, match="list of choices is empty"):
        Constraint(choices=())


def test_an_engine_without_a_grammar_refuses():
    plain = Engine(MODEL, params(), slots=1, context=32, end_of_turn=TOKENIZER.end_of_turn_ids)
    with pytest.raises(ConstraintError, match="without a grammar"):
        plain.submit(Request(PROMPT, constraint=CHOICES))


def test_where_no_token_goes_on_the_reply_is_cut(shared, without_z):
    narrow = engine(Grammar(without_z))
    with pytest.raises(ConstraintError, match="no token of the vocabulary begins"):
        narrow.submit(Request(PROMPT, constraint=Constraint(choices=("z",))))
    [[cut], [free]] = narrow.generate([Request(PROMPT, HOT, constraint=Constraint(choices=("abz",))), FREE[2]])
    assert cut.finish_reason == "length"
    assert cut.token_ids == tuple(without_z.encode("ab"))
    assert not narrow.busy
    assert_same([free], shared.generate([FREE[2]])[0])


def test_an_ordinary_token_that_ends_turns_is_not_in_the_text():
    """Some folders declare one. In the middle of the text it would cut it."""
    [end] = TOKENIZER.encode("c")
    matcher = Grammar(dataclasses.replace(TOKENIZER, end_of_turn_ids=frozenset({end}))).matcher(
        Constraint(regex="[a-d]+x?")
    )

    def allowed(token):
        return bool(matcher.allowed[token // 32] >> (token % 32) & 1)

    assert not allowed(end)
    assert matcher.take(TOKENIZER.encode("a")[0])
    assert allowed(end)  # the text may end here


@pytest.mark.parametrize(
    ("constraint", "name"),
    [
        (Constraint(choices=("é" * (MAX_CONSTRAINT // 2), "a")), "the choices"),
        (Constraint(choices=tuple(f"{number:04}" for number in range(MAX_CONSTRAINT // 4 + 1))), "the choices"),
        (Constraint(regex="a" * (MAX_CONSTRAINT + 1)), "the regex"),
        (Constraint.json({"description": "x" * MAX_CONSTRAINT}), "the JSON schema"),
    ],
)
def test_a_constraint_beyond_the_limit_is_refused(shared, constraint, name):
    """The engine compiles a grammar while all other requests wait for it."""
    with pytest.raises(ConstraintError, match=f"^{name}: {constraint.size} bytes; expected at most {MAX_CONSTRAINT}"):
        shared.submit(Request(PROMPT, HOT, constraint=constraint))
    assert not shared.busy


def test_a_constraint_at_the_limit_is_taken():
    text = "é" * (MAX_CONSTRAINT // 2)
    assert Grammar(TOKENIZER).matcher(Constraint(choices=(text,))).allowed.any()
