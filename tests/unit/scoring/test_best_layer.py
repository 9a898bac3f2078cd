import itertools

import numpy as np

from tasklens.scoring.best_layer import best_layer


def test_the_best_is_a_layer_with_the_highest_score() -> None:
    final = {("wte", "raw"): 0.99, ("embed", "raw"): 0.1, ("block2", "raw"): 0.6}
    final |= {("ln_f", "raw"): 0.99, ("block1", "tsne"): 0.3, ("block3", "raw"): np.nan}
    assert best_layer(final) == ("block2", "raw")
    assert best_layer(final | {("block1", "tsne"): 0.7}) == ("block1", "tsne")
    assert best_layer(final | {("embed", "raw"): 0.7}) == ("embed", "raw")


def test_without_layers_every_state_is_a_candidate() -> None:
    final = {("wte", "raw"): 0.5, ("ln_f", "raw"): 0.6, ("block1", "raw"): np.nan}
    assert best_layer(final) == ("ln_f", "raw")
    assert best_layer({("block1", "raw"): np.nan}) is None
    assert best_layer({}) is None


def test_of_equals_up_to_rounding_it_is_the_lowest_in_whatever_order() -> None:
    scores = {("block1", "raw"): 0.5, ("block2", "tsne"): 0.8, ("block2", "raw"): 0.8}
    scores |= {("block10", "raw"): 0.8 + 1e-15}
    for order in itertools.permutations(scores):
        assert best_layer({key: scores[key] for key in order}) == ("block2", "raw")
