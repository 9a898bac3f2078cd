"""Views and a verdict to what the page is told: plain JSON, and packed arrays."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tasklens.data.instances import split_name
from tasklens.findings.rules import FINDINGS
from tasklens.findings.verdict import Verdict, verdict_json
from tasklens.report.maps import best_state
from tasklens.report.page_arrays import Packer
from tasklens.report.view import MAPS, SplitView, View
from tasklens.scoring.score_table import CONTROLS

#: What is shown of a state by step.
METRICS = (
    *("ari", "ami", "ari_shuffled", "ari_input", "ari_output"),
    *("variance_task", "variance_input", "variance_output"),
    *("probe_task", "neighbours_task"),
)
#: Digits after the point of a score: more than a screen shows.
DIGITS = 4


def verdict_data(verdict: Verdict) -> dict[str, Any]:
    """Return the verdict with the thresholds in words."""
    told: dict[str, Any] = json.loads(verdict_json(verdict))
    for finding in told["findings"]:
        here = [check for check in verdict.checks if check.rule.finding == finding["finding"]]
        for check, plain in zip(here, finding["checks"], strict=True):
            plain["threshold"] = check.rule.threshold
            plain["split"] = split_name(check.split)
    for timing in told["half way"]:
        timing["split"] = split_name(timing["split"])
    assert len(told["findings"]) == len(FINDINGS)
    return told


def run_data(view: View) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what the page is told of a run, and its packed arrays as text, by split."""
    packed = {name: _pack(split) for name, split in view.splits.items()}
    manifest = view.manifest
    told = {
        "name": view.run,
        "seed": view.seed,
        "kind": view.kind,
        "steps": view.steps,
        "states": view.states,
        "best": best_state(view),
        "names": view.names,
        "answers": view.answers,
        "splits": [
            {
                "name": name,
                "title": split_name(name),
                "n": len(split),
                "instructions": sorted(set(split.instruction)),
                "arrays": packed[name].directory,
                "shown_variance": {
                    state: _rounded(share) for state, share in split.shown_variance.items()
                },
                "followed": {
                    state: {
                        "tasks": its.tasks.tolist(),
                        "formed": its.formed,
                        "overlap": [_rounded(row) for row in its.overlap],
                    }
                    for state, its in split.followed.items()
                },
            }
            for name, split in view.splits.items()
        ],
        "scores": _scores(view),
        "world": {
            "tasks": [
                {
                    "name": task.name,
                    "regexes": task.regexes,
                    "n_strings": task.n_strings,
                    "function": list(task.function.items()),
                    "examples": task.examples,
                    "n_examples": task.n_examples,
                }
                for task in view.world.tasks
            ],
            "sizes": dict(view.world.sizes),
            "same_output": _matrix(view.world.same_output),
            "same_symbols": _matrix(view.world.same_symbols),
        },
        "settings": view.settings,
        "about": {key: manifest.get(key) for key in ("command", "versions", "machine")},
        "stages": {
            stage: {key: value for key, value in mark.items() if key not in ("inputs", "files")}
            for stage, mark in manifest.get("stages", {}).items()
            if stage not in ("report",)
        },
        "hashes": {
            path: found
            for path, found in manifest.get("files", {}).items()
            if path != "report.html"
        },
    }
    return told, {name: packer.text() for name, packer in packed.items()}


def _pack(split: SplitView) -> Packer:
    """Return the arrays of a split; of each of `parts`, the numbers of names."""
    packer = Packer()
    for part, numbers in split.parts.items():
        packer.add(part, numbers)
    said = {text: i for i, text in enumerate(sorted(set(split.instruction)))}
    packer.add("instruction", np.array([said[text] for text in split.instruction]))
    packer.add("answer", split.answer + 1)  # 0: unknown
    if split.right is not None:
        packer.add("right", split.right.astype(np.uint8))
    for state, assigned in split.assigned.items():
        packer.add(f"cluster/{state}", assigned)
    for which in MAPS:
        for state in split.assigned:
            packer.add_places(f"{which}/{state}", split.maps[which, state])
    return packer


def _scores(view: View) -> dict[str, Any]:
    """Return {split: {line: {metric: [[mean, lowest, highest] or null, by step]}}}.

    A line is a state, a control or "model"; controls have one step. Over cluster seeds.
    """
    place = {step: i for i, step in enumerate(view.steps)}
    values: dict[tuple[str, str, str], dict[int, list[float]]] = {}
    for r in view.table.to_pylist():
        layer, metric = r["layer"], r["metric"]
        control = layer in CONTROLS and metric == "ari"
        state = layer in view.states and r["space"] == "raw" and metric in METRICS
        if r["split"] in view.splits and (control or state or metric == "accuracy"):
            step = 0 if control else place[r["step"]]
            values.setdefault((r["split"], layer, metric), {}).setdefault(step, []).append(
                r["value"]
            )
    told: dict[str, Any] = {split: {} for split in view.splits}
    for (split, line, metric), by_step in values.items():
        steps = range(1 if line in CONTROLS else len(view.steps))
        course = [_summary(by_step[step]) if step in by_step else None for step in steps]
        told[split].setdefault(line, {})[metric] = course
    return told


def _summary(values: Sequence[float]) -> list[float | None]:
    return _rounded([float(np.mean(values)), min(values), max(values)])


def _rounded(values: Iterable[float]) -> list[float | None]:
    """Return the values as short as a screen needs them; null where one is not finite."""
    return [round(float(v), DIGITS) if np.isfinite(v) else None for v in values]


def _matrix(values: Any) -> list[list[float | None]] | None:
    return None if values is None else [_rounded(row) for row in values]
