"""Statements on the small world, and the numbers by which they are tested in each seed."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from tables.statements import Statement
from tables.sweep_points import BASE, SEEN, Points

OUTPUTS, INPUTS = (6, 24, 96, 480), (6, 12, 24, 48)
LAST, MEAN = "instruction_last", "instruction_mean"
Number = Callable[[Points, int], float]


def grid(outputs: int, inputs: int) -> str:
    """Return the name of a run of the phase diagram."""
    parts = [] if outputs == 480 else [f"n_outputs = {outputs}"]
    return ", ".join([*parts, *([] if inputs == 24 else [f"n_inputs = {inputs}"])]) or BASE


def layer_number(layer: str | None) -> float:
    """Return the number of a layer: 0 for `embed`, NaN for none."""
    return math.nan if layer is None else float(layer.removeprefix("block").replace("embed", "0"))


def fall(points: Points, name: str, seed: int, layer: str = "block6") -> float:
    """Return the peak minus the end of a layer's ARI on unseen pairs."""
    return points.value(name, seed, layer, "peak") - points.value(name, seed, layer)


def over(
    names: Sequence[str], pick: Callable[..., float], of_run: Callable[[Points, str, int], float]
) -> Number:
    """Return the lowest or highest number over some runs; NaN if one is missing."""

    def compute(points: Points, seed: int) -> float:
        values = [of_run(points, name, seed) for name in names]
        return math.nan if any(map(math.isnan, values)) else pick(values)

    return compute


def over_inputs(
    outputs: int, pick: Callable[..., float], of_run: Callable[[Points, str, int], float]
) -> Number:
    """Return the lowest or highest number over all numbers of inputs; NaN if one is missing."""
    return over([grid(outputs, inputs) for inputs in INPUTS], pick, of_run)


def _best(points: Points, name: str, seed: int) -> float:
    return points.of_best(name, seed)


def _best_fall(points: Points, name: str, seed: int) -> float:
    return points.of_best(name, seed, "peak") - points.of_best(name, seed)


def _last(points: Points, name: str, seed: int) -> float:
    return points.value(name, seed, "block6")


def _below_last(points: Points, name: str, seed: int) -> float:
    """Return the highest ARI on the training subset below the last block, read on unseen pairs."""
    layers = {x: points.value(name, seed, x, split=SEEN) for x in points.layers[:-1]}
    if any(map(math.isnan, layers.values())):
        return math.nan
    return points.value(name, seed, max(layers, key=lambda x: layers[x]))


def _trained(outputs: int, position: str, column: str = "final") -> Number:
    """Return the best layer's ARI at a position; of "initial" that of the untrained network."""
    name = grid(outputs, 24)
    return lambda p, s: p.of_best(name, s, column, by=column, position=position)


def _gain(outputs: int, position: str) -> Number:
    """Return the best layer's ARI at a position, trained minus untrained."""
    after, before = (_trained(outputs, position, column) for column in ("final", "initial"))
    return lambda p, s: after(p, s) - before(p, s)


def _from_peak(outputs: int, column: str = "") -> Number:
    """Return the fall of the layer with the highest peak, or its number in a column at the end."""
    name = grid(outputs, 24)
    if column:
        return lambda p, s: p.of_best(name, s, column, by="peak")
    return lambda p, s: p.of_best(name, s, "peak", by="peak") - p.of_best(name, s, by="peak")


#: The runs around the small world in which enough steps are trained.
LEARNED = (
    BASE,
    *("symbols = abc", "symbols = abcdefgh"),
    *("min_length = 4, max_length = 8", "min_length = 10, max_length = 20"),
    *("n_embd = 64, initializer_range = 0.07", "n_embd = 256, initializer_range = 0.035"),
    *("initializer_range = 0.025", "initializer_range = 0.1"),
    *("learning_rate = 0.0005", "learning_rate = 0.002"),
    *("weight_decay = 0", "weight_decay = 0.1", "steps = 4500"),
)
ALL_OF_GRID = tuple(grid(outputs, inputs) for outputs in OUTPUTS for inputs in INPUTS)
FEW = "n_outputs = 24"
STATEMENTS = (
    Statement(
        "phase",
        "With 480 outputs the last block sorts by task, however many inputs a task has",
        "lowest final ARI of block6, over 6 to 48 inputs",
        over_inputs(480, min, _last),
        above=0.8,
        is_answer=True,
    ),
    Statement(
        "phase",
        "With 96 outputs a block below the last sorts by task",
        "lowest final ARI of the best of block1 to block5, over 6 to 48 inputs",
        over_inputs(96, min, _below_last),
        above=0.5,
    ),
    Statement(
        "phase",
        "With 96 outputs the last block turns away from the tasks, the more inputs the more",
        "final ARI of block6 with 6 inputs, minus that with 48",
        lambda p, s: _last(p, grid(96, 6), s) - _last(p, grid(96, 48), s),
        above=0.2,
    ),
    Statement(
        "phase",
        "With 24 outputs hardly any block sorts by task",
        "highest final ARI of the best layer, over 6 to 48 inputs",
        over_inputs(24, max, _best),
        below=0.5,
        is_answer=True,
    ),
    Statement(
        "phase",
        "With 24 outputs the function is learned all the same",
        "lowest accuracy, over 6 to 48 inputs",
        over_inputs(24, min, lambda p, n, s: p.value(n, s, "block6", "accuracy")),
        above=0.95,
    ),
    Statement(
        "phase",
        "With 6 outputs no block sorts by task",
        "highest final ARI of the best layer, over 6 to 48 inputs",
        over_inputs(6, max, _best),
        below=0.3,
    ),
    Statement(
        "phase",
        "With 6 outputs and 6 inputs the last block's clusters are the outputs",
        "ARI of block6 with the outputs",
        lambda p, s: p.value(grid(6, 6), s, "block6", "ari_output"),
        above=0.5,
    ),
    Statement(
        "phase",
        "The best layer stays near its peak",
        "largest fall of the best layer from its peak, over all 16 runs",
        over(ALL_OF_GRID, max, _best_fall),
        below=0.15,
    ),
    Statement(
        "phase",
        "With 96 outputs the last block falls from its peak",
        "smallest fall of block6 from its peak, over 6 to 48 inputs",
        over_inputs(96, min, fall),
        above=0.1,
    ),
    Statement(
        "last_block",
        "With 24 outputs the last block falls from its peak, as the output is learned",
        "fall of block6 from its peak",
        lambda p, s: fall(p, FEW, s),
        above=0.05,
        is_answer=True,
    ),
    Statement(
        "last_block",
        "With 480 outputs the last block does not fall",
        "fall of block6 from its peak",
        lambda p, s: fall(p, BASE, s),
        below=0.05,
    ),
    Statement(
        "last_block",
        "The tied head is not the reason",
        "final ARI of block6, untied minus tied, without its sign",
        lambda p, s: abs(_last(p, f"{FEW}, tie_word_embeddings = false", s) - _last(p, FEW, s)),
        below=0.1,
    ),
    Statement(
        "last_block",
        "t-SNE does not restore the tasks in the last block",
        "ARI of block6 after t-SNE, 24 outputs",
        lambda p, s: p.value(FEW, s, "block6", space="tsne"),
        below=0.2,
    ),
    Statement(
        "last_block",
        "With ten times the output's weight in the loss the tasks are lower",
        "number of the best layer, minus that with the usual weight",
        lambda p, s: (
            layer_number(p.best(f"{FEW}, output_weight = 10", s)) - layer_number(p.best(FEW, s))
        ),
        below=-0.5,
    ),
    Statement(
        "last_block",
        "With a loss on the output only a low block sorts by task",
        "higher final ARI of block2 and block3",
        lambda p, s: max(p.value(f"{FEW}, loss = output", s, x) for x in ("block2", "block3")),
        above=0.8,
    ),
    Statement(
        "last_block",
        "With a loss on the output only the upper blocks do not sort by task",
        "higher final ARI of block5 and block6",
        lambda p, s: max(p.value(f"{FEW}, loss = output", s, x) for x in ("block5", "block6")),
        below=0.2,
    ),
    Statement(
        "around",
        "No setting removes the clusters, except too few steps",
        "lowest final ARI of the best layer, without the run of 500 steps",
        over(LEARNED, min, _best),
        above=0.8,
    ),
    Statement(
        "around",
        "Three times the steps loosen the clusters of the last block",
        "fall of block6 from its peak, 4,500 steps",
        lambda p, s: fall(p, "steps = 4500", s),
        above=0.05,
    ),
    Statement(
        "around",
        "Three symbols are a harder alphabet than five",
        "final ARI of block6 with three symbols, minus that with five",
        lambda p, s: _last(p, "symbols = abc", s) - _last(p, BASE, s),
        below=-0.1,
    ),
    Statement(
        "around",
        "With a small initial deviation mainly the last block sorts by task",
        "final ARI of block6 minus block5, deviation 0.025",
        lambda p, s: (
            _last(p, "initializer_range = 0.025", s)
            - p.value("initializer_range = 0.025", s, "block5")
        ),
        above=0.2,
    ),
    Statement(
        "around",
        "Weight decay from 0 to 0.1 has no visible effect on the last block",
        "range of the final ARI of block6 over three values",
        lambda p, s: float(
            np.ptp([_last(p, name, s) for name in (BASE, "weight_decay = 0", "weight_decay = 0.1")])
        ),
        below=0.05,
    ),
    Statement(
        "around",
        "A higher learning rate moves the tasks up",
        "final ARI of block4 with 0.0005, minus that with 0.002",
        lambda p, s: (
            p.value("learning_rate = 0.0005", s, "block4")
            - p.value("learning_rate = 0.002", s, "block4")
        ),
        above=0.3,
    ),
    *(
        Statement(
            "positions",
            f"With {n} outputs training adds order {title}",
            "ARI of the best layer there, trained minus untrained",
            _gain(n, position),
            above=above,
            is_answer=n == 24,
        )
        for position, title, above in (
            (MEAN, "in the mean over the instruction", 0.2),
            (LAST, "at the last instruction token", 0.1),
        )
        for n in OUTPUTS
    ),
    Statement(
        "positions",
        "In the mean over the instruction the order does not depend on the outputs",
        "range of the best layer's ARI over 6 to 480 outputs",
        lambda p, s: float(np.ptp([_trained(n, MEAN)(p, s) for n in OUTPUTS])),
        below=0.2,
        is_answer=True,
    ),
    Statement(
        "positions",
        "In the mean over the instruction there is more order than in its symbols",
        "lowest ARI of the best layer over 6 to 480 outputs, minus that of the bag of symbols",
        lambda p, s: min(
            _trained(n, MEAN)(p, s) - p.value(grid(n, 24), s, "control:symbols") for n in OUTPUTS
        ),
        above=0.0,
    ),
    *(
        Statement(
            "rise",
            f"With {n} outputs the clusters dissolve in three times the steps",
            "fall of the layer with the highest peak",
            _from_peak(n),
            above=0.1,
            is_answer=n != 96,
        )
        for n in OUTPUTS[1:]
    ),
    *(
        Statement(
            "rise",
            f"With {n} outputs that layer's tasks can still be decoded",
            "accuracy of the linear probe at the end",
            _from_peak(n, "probe_task"),
            above=0.9,
        )
        for n in OUTPUTS[1:]
    ),
)
