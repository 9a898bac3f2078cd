"""Tables of the verdict on runs: every check, and when curves are half of their way."""

from typing import Any

from tables.markdown import MISSING, markdown


def findings_table(verdict: dict[str, Any]) -> str:
    """Return every check with its number, interval and verdict."""
    rows = []
    for finding in verdict["findings"]:
        rows.append([f"**{finding['finding']}**", "", f"**{finding['verdict']}**"])
        rows += [
            [
                f"{check['statistic']}: {check['split']}",
                f"{interval(check)}, should be {limits(check)}",
                check["verdict"],
            ]
            for check in finding["checks"]
        ]
    return markdown(["finding, number, split", "mean of the runs [interval]", "verdict"], rows)


def interval(check: dict[str, Any]) -> str:
    """Return the number of a check with its interval, if its data are there."""
    if check["value"] is None:
        return MISSING
    value = f"{check['value']:z.2f}"
    if check["low"] is None or check["high"] is None:
        return value
    return f"{value} [{check['low']:z.2f}, {check['high']:z.2f}]"


def limits(check: dict[str, Any]) -> str:
    """Return the thresholds of a check."""
    known = (("above", ">"), ("below", "<"))
    return " and ".join(
        f"{sign} {check[name]:g}" for name, sign in known if check[name] is not None
    )


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
