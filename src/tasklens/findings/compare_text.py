"""Write the comparison of two runs, or of the stages of one model, as plain text or for JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from tasklens.core.text import aligned
from tasklens.findings.compare import BEST, ComparedSteps, Comparison, Difference


def comparison_data(scores: Comparison) -> dict[str, Any]:
    """Return the differences as nested dictionaries and lists."""
    return {
        "ari": [asdict(each) for each in scores.ari],
        "decoded": [asdict(each) for each in scores.decoded],
        "accuracy": [asdict(each) for each in scores.accuracy],
        "best": [cell and {"layer": cell[0], "space": cell[1]} for cell in scores.best],
        "best_layers": scores.best_layers,
    }


def steps_data(compared: Sequence[ComparedSteps]) -> list[dict[str, Any]]:
    """Return the differences between checkpoints as nested dictionaries and lists."""
    return [
        {"first": pair.names[0], "second": pair.names[1], "steps": pair.steps}
        | comparison_data(pair.scores)
        for pair in compared
    ]


def comparison_lines(scores: Comparison, first: str, second: str) -> list[str]:
    """Return a table of the differences, one line per split and hidden state."""
    rows = [["final ARI", "space", "split", first, second, "difference"]]
    rows += [[_layer(d), d.space, d.split, *_numbers(d)] for d in scores.ari]
    rows += [["linear probe", "", "", "", "", ""]] if scores.decoded else []
    rows += [[_layer(d), "", d.split, *_numbers(d)] for d in scores.decoded]
    rows += [["accuracy", "", d.split, *_numbers(d)] for d in scores.accuracy]
    best = [layer or "none" for layer in scores.best_layers]
    return [*aligned(rows), "", f"best layer: {best[0]} | {best[1]}"]


def steps_text(compared: Sequence[ComparedSteps]) -> str:
    """Return all differences between checkpoints as plain text: what `tasklens compare` prints."""
    lines = []
    for pair in compared:
        first, second = pair.names
        lines += [f"{second} - {first}", *comparison_lines(pair.scores, first, second), ""]
    return "\n".join(lines)


def steps_summary(compared: Sequence[ComparedSteps]) -> str:
    """Return the differences in the best layers as plain text, a column for each pair."""
    rows = [["difference, same prompts", "split"]]
    rows[0] += [f"{second} - {first}" for first, second in (pair.names for pair in compared)]
    cells: dict[tuple[str, str], dict[int, str]] = {}
    for i, pair in enumerate(compared):
        for what, each in _in_best_layers(pair.scores):
            cells.setdefault((what, each.split), {})[i] = _change(each)
    rows += [
        [*key, *(each.get(i, "-") for i in range(len(compared)))] for key, each in cells.items()
    ]
    layers = {
        name: layer
        for pair in compared
        for name, layer in zip(pair.names, pair.scores.best_layers, strict=True)
    }
    best = ", ".join(f"{layer or 'none'} of {name}" for name, layer in layers.items())
    return "\n".join([*aligned(rows), f"best layers: {best}", ""])


def _in_best_layers(scores: Comparison) -> Iterator[tuple[str, Difference]]:
    """Yield the differences in the best layers, and of the accuracy, with what they are of."""
    for each in scores.ari:
        if each.layer == BEST:
            yield "ARI, best layer", each
    for each in scores.decoded:
        if each.layer == BEST:
            yield "linear probe, best layer", each
    for each in scores.accuracy:
        yield "accuracy", each


def _layer(difference: Difference) -> str:
    return "best layer" if difference.layer == BEST else difference.layer


def _numbers(difference: Difference) -> list[str]:
    """Return both scores, and their difference with its interval."""
    scores = [f"{score:z5.2f}" for score in (difference.first, difference.second)]
    return [*scores, _change(difference)]


def _change(difference: Difference) -> str:
    interval = f"[{difference.low:z.2f}, {difference.high:z.2f}]"
    return f"{difference.difference:+z.2f}  {interval}"
