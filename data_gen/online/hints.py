"""What distilling learns from in a round: the policy's own replies, given what had shown about the user.

The hint at a message is the belief that stands there, in the words of the responder's prompt, as a responder that was
told would get it. Replies to a message that nothing had shown by have no hint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from aloe_jax.errors import InputError
from aloe_jax.run.stage import Run
from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.hinted import hinted_paths
from aloe_jax.tree.prune import pruned
from aloe_jax.tree.row import TreeRow
from aloe_jax.tree.schema import Conversation
from aloe_jax.tree.trie import build_trie
from data_gen.online.packed import GivenHints, Packing
from data_gen.players.prompts import Prompt
from data_gen.players.table import RolesSettings, prompt_of
from data_gen.roles import Revealed, hint_text

RESPONDER = "responder"
# Rows to the batch [N, B, ...] of them on the host, and the log-probability [N, B, M] of each of its targets.
Score = Callable[[Sequence[TreeRow]], tuple[TreeRow, Float[np.ndarray, "N B M"]]]


@dataclass(frozen=True)
class Hints:
    """The hints of rollout trees, worded by the block `system` of `prompt`."""

    prompt: Prompt

    def of(self, tree: Conversation) -> dict[str, str]:
        """The system message of a responder that knows what had shown, by the id of the user's message."""
        assert tree.persona is not None
        found = {}
        for node in tree.nodes:
            known = [Revealed(belief.id, 0) for belief in node.belief or ()]
            if hint := hint_text(tree.persona, known):
                found[node.id] = self.prompt.render("system", hint=hint)
        return found

    def log_probs(self, trees: Sequence[Conversation], packing: Packing, score: Score) -> GivenHints:
        """The log-probabilities of the tokens of every reply that has a hint, given it. Raises InputError for a path
        that is longer with its hint than `packing` lets paths be: a cut one would be compared with a whole one."""
        parts = list[TreeRow]()
        owners = list[tuple[int, Mapping[int, int]]]()  # of each path its tree, and the places of its replies there
        for number, tree in enumerate(trees):
            for path in hinted_paths(tree, self.of(tree)):
                trie = build_trie(path.conversation, packing.chat, packing.longest)
                if trie.turns_cut:
                    raise InputError(
                        f"config.dataset.max_path: a path with its hint is longer than {packing.longest} tokens "
                        f"(conversation '{path.conversation.id}'); raise it, or lower config.online.rollout.turns"
                    )
                for part in fragments(path.conversation, trie, packing.capacity, len(owners)):
                    if (told := path.told(part)).any():
                        parts.append(pruned(part, told))
                owners.append((number, path.replies))
        if not parts:
            return {}
        rows, values = score(packing.laid_out(parts))
        found = {}
        for at in np.ndindex(rows.tokens.shape[:2]):
            for place in np.flatnonzero(rows.conversation[at] >= 0).tolist():
                number, replies = owners[int(rows.conversation[at][place])]
                found[number, replies[int(rows.node[at][place])]] = values[at][rows.reply[at] == place]
        return found


def hints_of(run: Run) -> Hints:
    """Hints in the words of the run's responder."""
    return Hints(prompt_of(RESPONDER, run.section("roles", RolesSettings).of(RESPONDER)))
