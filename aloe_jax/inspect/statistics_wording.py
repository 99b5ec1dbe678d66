"""Statistics in words: what they say and mean, as sentences and as a table of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aloe_jax.inspect.amounts import counted
from aloe_jax.inspect.distribution import Distribution
from aloe_jax.inspect.near_duplicates import ALIKE, WORDS
from aloe_jax.inspect.statistics import Statistics
from aloe_jax.inspect.tokens import visible

LOW_SHARING = 4.0  # sharing factor below which a sentence says why
SHOWN = 5  # groups, and ids of a group, that a sentence names
HEADS = ("least", "median", "mean", "90 % <=", "most")


def sentences(found: Statistics) -> Iterator[str]:
    """What the statistics say and mean, a sentence per finding."""
    yield (
        f"{counted(found.conversations, 'conversation')} with {counted(found.replies, 'reply')} and "
        f"{counted(found.pairs, 'pair')}; {found.tree_tokens:,} tokens, of which SFT trains on "
        f"{found.trained_tokens:,} ({found.trained_share:.1%}) and the rest is context."
    )
    if found.good or found.bad:
        yield f"{counted(found.good, 'reply')} labelled good, {found.bad:,} labelled bad."
    if found.untrained:
        yield f"{counted(found.untrained, 'conversation')} with nothing that SFT trains on."
    meaning = (
        f"training computes {found.tree_tokens:,} tokens where one sequence per reply would take {found.path_tokens:,}"
    )
    low = (
        " Conversations of one turn and one reply share nothing, short ones little."
        if found.sharing < LOW_SHARING
        else ""
    )
    yield f"Sharing factor {found.sharing:.2f}: {meaning}, as what replies have in common is computed once.{low}"
    limit = f"the maximum of {found.max_path:,} tokens"
    if found.cut_paths:
        yield (
            f"{found.cut_paths:,} of {counted(found.replies, 'path')} {'is' if found.cut_paths == 1 else 'are'} longer "
            f"than {limit}; {counted(found.turns_cut, 'turn')} cut from the left."
        )
    else:
        yield f"No path is longer than {limit}, so nothing is cut."
    resemblance = f"{ALIKE:.0%} of their runs of {WORDS} words in common"
    if not found.alike:
        yield f"No two conversations are nearly the same (about {resemblance})."
    else:
        shown = found.groups[:SHOWN]
        named = "; ".join(", ".join(map(visible, _some(names))) for names in shown)
        first = "" if len(found.groups) <= SHOWN else ", the largest ones"
        alike = counted(found.alike, "conversation")
        yield f"{alike} nearly the same as another one (about {resemblance}){first}: {named}."


def _some(names: Sequence[str]) -> Sequence[str]:
    """The first names of a group, and how many there are."""
    return names if len(names) <= SHOWN else (*names[:SHOWN], f"and {len(names) - SHOWN} more")


def table(distributions: Sequence[Distribution]) -> Iterator[str]:
    """A line per distribution with its quantiles and its histogram, as columns of at most 80 characters."""
    if not distributions:
        return
    width = max(len(each.name) for each in distributions)
    yield " " * width + "".join(f"{head:>8}" for head in HEADS)
    for each in distributions:
        yield f"{each.name:<{width}}" + "".join(f"{value:>8}" for value in figures(each)) + f"  {each.blocks}".rstrip()


def figures(found: Distribution) -> tuple[str, ...]:
    """Its values under HEADS as text."""
    values = (found.low, found.median, found.mean, found.p90, found.high)
    return tuple(f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}" for value in values)


def summary(found: Distribution) -> str:
    """Its quantiles as a line below its picture."""
    least, median, mean, p90, most = figures(found)
    if found.low == found.high:
        return f"all {least}"
    return f"median {median}, mean {mean}, 90 % at most {p90}; {least} to {most}"
