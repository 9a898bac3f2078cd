"""Draw the effect of an edit beside the ARI of the clusters, by hidden state and step."""

from collections.abc import Hashable, Mapping
from typing import Literal

import numpy as np
from matplotlib.figure import Figure

from tasklens.core.errors import InputError
from tasklens.data.instances import split_title
from tasklens.findings.use import CAVEAT
from tasklens.report.matrices import Values, draw_matrix, draw_scale, name_checkpoints
from tasklens.report.style import IN_TITLE, drawable, in_style, new_figure, room, write_heading
from tasklens.report.summary import mean_scores
from tasklens.report.view import View

#: What each effect is, for the title of its panel.
EFFECTS = {
    "becomes": "share that becomes the other's",
    "becomes_normalised": "from random (0) to patch (1)",
    "stays": "share that stays",
    "third": "share that becomes a third's",
}


@in_style
def figure_use(
    view: View,
    split: str | None = None,
    edit: str = "shift",
    effect: Literal["becomes", "becomes_normalised", "stays", "third"] = "becomes",
) -> Figure:
    """Draw whether hidden states form clusters, and whether answers follow an edit of them.

    The first heat map is the ARI of the clusters against the task, as in `figure_agreement`. The
    second is the effect of an edit on the answers, mean over pairs of an instance and another task.
    Rows are hidden states, from the input at the bottom up. Columns are the checkpoints with edits.
    Earlier tokens still carry the own task, and no effect is a cause of what training does.

    Parameters
    ----------
    view : View
        From `tasklens.Run.view`, of a run with interventions.
    split : str, optional
        By default the first unseen split, if there is one, otherwise the only split.
    edit : str
        One of the edits of `tasklens.Run.effects`: "shift", "patch" (the ceiling), "random" (the
        floor), and so on.
    effect : {"becomes", "becomes_normalised", "stays", "third"}
        Share of answers that become those of the other task, as they are or normalised between
        random directions and the ceiling; that stay; or that become those of a third task.

    Raises
    ------
    InputError
        If the run has no interventions, or not this split, edit or effect.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.figure_use(tl.load_run("runs/smoke").view()).savefig("use.png")
    """
    split, _ = view.split(split)
    edits = view.edits
    if edits is None:
        raise InputError(f"{view.run}: there are no interventions: tasklens intervene makes them")
    if effect not in EFFECTS:
        raise InputError(f"no effect {effect!r}; there are {', '.join(EFFECTS)}")
    means = edits.means(split)
    means = means[means["metric"] == effect]
    known = sorted(set(means["edit"]))
    if edit not in known:
        raise InputError(f"no edit {edit!r} on {split}; there are {', '.join(known) or 'none'}")
    rows = means[means["edit"] == edit]
    shares = rows.set_index(["state", "step"])["value"].to_dict()
    scores = mean_scores(view.table, split, "ari")
    panels = {
        "ARI against the task": scores,
        f"answers after {drawable(edit, IN_TITLE)}:\n{EFFECTS[effect]}{_most(shares)}": shares,
    }
    names = list(map(drawable, view.states))
    figure = new_figure(5.2 + max(0, room(names) - 0.4), 1.1 + 0.15 * len(names), "constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for ax, (title, values) in zip(axes, panels.items(), strict=True):
        matrix: Values = np.array(
            [[values.get((s, step), np.nan) for step in edits.steps] for s in view.states]
        )
        draw_matrix(ax, matrix, np.round(matrix, 2) + 0.0, origin="lower")
        name_checkpoints(ax, edits.steps, view.step_names)
        ax.set_title(title)
    axes[0].set_yticks(range(len(names)), names)
    draw_scale(figure, axes, "ARI, share")
    write_heading(figure, f"{drawable(split_title(split), IN_TITLE)}; {CAVEAT}")
    return figure


def _most(shares: Mapping[Hashable, float]) -> str:
    """Return the largest of some effects, for a title: a colour hardly shows a small one."""
    known = [share for share in shares.values() if np.isfinite(share)]
    return f", at most {max(known):.2f}" if known else ""
