"""When two gradients agree."""

import jax
import numpy as np

TOLERANCE = 1e-5


def assert_agree(got, expected, tolerance=TOLERANCE):
    """Every leaf to `tolerance` of its own largest entry, which is not 0.

    An entry is a sum of terms as large as those of the leaf's largest entries, and another order of summation rounds it
    by 2^-24 of them each time, even if most of the sum cancels; so entries are not compared relative to themselves. Nor
    are leaves relative to each other: one that is small everywhere must be right too.
    """
    for (path, right), left in zip(jax.tree.leaves_with_path(expected), jax.tree.leaves(got), strict=True):
        name, scale = jax.tree_util.keystr(path), float(np.abs(right).max())
        assert scale > 0, f"{name} has no gradient"
        np.testing.assert_allclose(left, right, rtol=0, atol=tolerance * scale, err_msg=name)
