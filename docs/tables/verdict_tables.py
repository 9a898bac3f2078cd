"""Tables of the verdict on runs: every check, and when curves are half of their way."""

from typing import Any

from tables.markdown import markdown


def findings_table(verdict: dict[str, Any]) -> str:
    """Return every check with its number, interval and verdict."""
    rows = []
    for finding in verdict["findings"]:
        rows.append([f"**{finding['finding']}**", "", f"**{finding['verdict']}**"])
        for check in finding["checks"]:
            limits = [
                f"{word} {check[name]:g}"
                for name, word in (("above", ">"), ("below", "<"))
                if check[name] is not None
            ]
            statistic = f"{check['statistic']}: {check['split']}"
            number = f"{check['value']:z.2f} [{check['low']:z.2f}, {check['high']:z.2f}]"
            rows.append(
                [statistic, f"{number}, should be {' and '.join(limits)}", check["verdict"]]
            )
    return markdown(["finding, number, split", "mean of the runs [interval]", "verdict"], rows)


def timing_table(verdict: dict[str, Any]) -> str:
    """Return the step at which the ARI of each hidden state and the accuracy are half way.

    A curve that does not rise in some run has no such step there, and so no mean over the runs.
    """
    rows = []
    for timing in verdict["half way"]:
        each = ["none" if step is None else f"{step:,.0f}" for step in timing["each"]]
        ends = f"[{timing['low']:,.0f}, {timing['high']:,.0f}]"
        mean = "none" if timing["step"] is None else f"{timing['step']:,.0f} {ends}"
        rows.append([timing["what"], *each, mean])
    seeds = [f"seed {run['seed']}" for run in verdict["runs"]]
    return markdown(["half way at step", *seeds, "mean [interval]"], rows)
