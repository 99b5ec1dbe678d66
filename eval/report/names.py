"""Results by name on pages and in tables: their order, their words, and how their curves are drawn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aloe_jax.train.names import BASE, OWN
from eval.benchmark.entries import CONTROLS, ORACLE

WORDS = {"base": "base", "sft": "SFT", "preference": "preference", "online": "online", ORACLE: "oracle (ceiling)"}
OTHERS = 4  # styles of the other models, `other0` to `other3` in style.css; a fifth one takes the first again
MARKERS = ("circle", "square", "diamond")


# Classes of style.css for results of several runs, seven colours and three marks, so that 21 of them are told apart.
PALETTE = ("sft", "preference", *(f"other{number}" for number in range(OTHERS)), "base")


@dataclass(frozen=True)
class Style:
    """The CSS class of a curve, which sets colour and dash, and the shape of its marks."""

    css: str
    marker: str


def is_control(name: str) -> bool:
    """Whether a result is of a control, the oracle's included."""
    return name == ORACLE or (name.rpartition("+")[2] in CONTROLS and "+" in name)


def ordered(names: Iterable[str]) -> list[str]:
    """The run's own models in the order of training, other models, the oracle, other controls."""
    rank = {name: number for number, name in enumerate(OWN)}
    return sorted(names, key=lambda name: (is_control(name), name != ORACLE, rank.get(name, len(rank)), name))


def words(name: str) -> str:
    """A result's name as the page writes it; a control's is `SFT, wrong persona`."""
    model, sign, control = name.rpartition("+")
    if sign and control in CONTROLS:
        return f"{words(model)}, {control.replace('_', ' ')}"
    return WORDS.get(name, name)


def styles(names: Iterable[str]) -> dict[str, Style]:
    """A style for each result: the run's own models and the oracle have theirs, others take the next one."""
    found, others = {}, 0
    for name in names:
        if name in OWN or name == ORACLE:
            number = OWN.index(name) if name in OWN else 0
            found[name] = Style(name, "none" if name == ORACLE else MARKERS[number % len(MARKERS)])
        else:
            found[name] = Style(f"other{others % OTHERS}", MARKERS[others % len(MARKERS)])
            others += 1
    return found


def palette(count: int) -> list[Style]:
    """As many styles, different as long as they can be."""
    return [Style(PALETTE[k % len(PALETTE)], MARKERS[k % len(MARKERS)]) for k in range(count)]


__all__ = ["BASE", "Style", "is_control", "ordered", "palette", "styles", "words"]
