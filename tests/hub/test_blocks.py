"""From the shards of a parameter to blocks of stored tensors and back."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from aloe_jax.hub import blocks, families
from aloe_jax.models.families import FAMILIES
from helpers import hub_files


def _block(*ends):
    return tuple(slice(*end) for end in ends)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layers", [None, 3])
def test_stored_coordinates_lead_back_to_the_parameter(layers, family):
    """For every tensor: a block cut in stored coordinates is the same slice of `to_param` of the whole."""
    for weight in families.weights(FAMILIES[family].from_hf(FAMILIES[family].TINY | {"vocab_size": 30})):
        tensors = [
            np.arange(layer, layer + np.prod(weight.shape)).reshape(weight.shape) for layer in range(layers or 1)
        ]
        params = [weight.to_param(tensor) for tensor in tensors]
        param = params[0] if layers is None else np.stack(params)
        stored = blocks.stored(weight, layers)
        assert stored.to_param(stored.shape) == param.shape
        index = tuple(slice(size // 3, size) for size in param.shape)
        block = stored.index(index)
        shape, place = stored.in_tensor(block)
        whole = np.stack([tensor.reshape(shape) for tensor in tensors])
        np.testing.assert_array_equal(stored.view(whole[block[0], *place]), param[index])


def test_linear_map_by_hand():
    """q_proj is stored [out, in] = [H * K, D]; our [D, H, K] is stored as H, K, D."""
    query = next(weight for weight in families.weights(hub_files.TINY) if weight.path == ("layers", "query"))
    assert blocks.stored(query, 2) == blocks.Stored((2, 4, 16, 64), (0, 3, 1, 2), 0, 4)
    index = _block((None, None), (16, 32), (2, 4), (None, None))
    assert blocks.stored(query, 2).index(index) == _block((0, 2), (2, 4), (0, 16), (16, 32))


@pytest.mark.parametrize("to_param", [lambda array: array + 1, lambda array: array[:, 1:], lambda array: array[::-1]])
def test_to_param_must_be_a_view(to_param):
    weight = dataclasses.replace(families.weights(hub_files.TINY)[0], to_param=to_param)
    with pytest.raises(TypeError, match="must be a view"):
        blocks.stored(weight, None)


def test_parameters_of_a_fused_tensor_by_hand():
    """Phi-3's qkv_proj has 4 x 8 rows of queries, 2 x 8 of keys and of values: 8 heads, keys from the fifth on."""
    phi3 = FAMILIES["phi3"]
    key = next(one for one in phi3.weights(phi3.from_hf(phi3.TINY | {"vocab_size": 30})) if one.path[-1] == "key")
    found = blocks.stored(key, None)
    assert found == blocks.Stored((1, 2, 8, 32), (3, 1, 2), 4, 8)
    assert found.in_tensor(_block((0, 1), (1, 2), (0, 8), (3, 5))) == ((8, 8, 32), _block((5, 6), (0, 8), (3, 5)))


@pytest.mark.parametrize("family", FAMILIES)
def test_entries_cover_each_tensor_once(family):
    """The rows that `to_hf` gives for the parameters in a tensor, one below the other, are that tensor."""
    weights = families.weights(FAMILIES[family].from_hf(FAMILIES[family].TINY | {"vocab_size": 30}))
    for _, entries in itertools.groupby(weights, key=lambda weight: weight.name):
        parts = list(entries)
        tensor = np.arange(np.prod(parts[0].shape)).reshape(parts[0].shape)
        np.testing.assert_array_equal(np.concatenate([one.to_hf(one.to_param(tensor)) for one in parts]), tensor)
    assert len({weight.path for weight in weights}) == len(weights)


@pytest.mark.parametrize("most", [1, 100, 999, 10**6])
def test_pieces_cover_a_shard_once(most):
    """Shards [2, 7, 3, 5] of which two are on this machine, two bytes per number: 60 bytes per row."""
    count = np.zeros((2, 7, 3, 5), int)
    for piece in blocks.pieces(count.shape, 4, most):
        place = piece.of(tuple(slice(0, size) for size in count.shape))
        count[place] += 1
        assert count[place].size * 4 <= max(most, 60)
    assert (count == 1).all()


def test_piece_of_a_shard_that_is_not_the_first():
    piece = blocks.Piece((0, 2, 0), (1, 3, 4))
    assert piece.of(_block((5, 6), (10, 20), (8, 12))) == _block((5, 6), (12, 15), (8, 12))


def test_blocks_side_by_side_are_joined():
    """A grid of 2 x 3 is one block; without a corner it is two, and equal ones count once."""
    grid = [_block((row, row + 2), (column, column + 5)) for row in (4, 6) for column in (0, 5, 10)]
    assert blocks.merged([*grid, grid[0]]) == [_block((4, 8), (0, 15))]
    rest = blocks.merged(grid[1:])
    assert len(rest) == 2
    assert sum((row.stop - row.start) * (column.stop - column.start) for row, column in rest) == 5 * 10
    apart = [_block((0, 2), (0, 5)), _block((3, 5), (0, 5))]
    assert blocks.merged(apart) == apart


def test_cut_out_of_a_larger_block():
    array = np.arange(24).reshape(4, 6)
    places = [(_block((0, 4), (0, 6)), -array), (_block((10, 14), (0, 6)), array)]
    np.testing.assert_array_equal(blocks.cut(_block((11, 13), (2, 4)), places), array[1:3, 2:4])
    with pytest.raises(KeyError, match="no array holds"):
        blocks.cut(_block((3, 5), (0, 6)), places)
