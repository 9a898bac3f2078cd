from pathlib import Path

import numpy as np

from tasklens.core.seeds import stream
from tasklens.runs.state_frames import Shown
from tasklens.scoring.residuals import regressors_of, residuals
from tasklens.scoring.score_cells import MeasureSettings, prepared


def test_maps_are_of_the_states_as_they_are_clustered(tmp_path: Path) -> None:
    x = stream(0, "states").normal(size=(60, 4)).astype(np.float32)
    np.save(tmp_path / "block1.npy", x)
    splits, task = {"kept": slice(0, 40), "other": slice(40, 60)}, np.arange(60) % 3
    regressors = regressors_of({"form": [*"abbc"] * 15}, splits, task)
    measure, points = MeasureSettings(normalize=True), np.array([1, 5, 19])
    for given in ((), regressors):
        shown = Shown(
            rows=splits["other"],
            points=points,
            measure=measure,
            regressors=given,
            perplexity=5,
            exaggeration=1.5,
            stay=1,
            task=task[40:][points],
            fit=splits["kept"],
            fit_task=task[:40],
        )
        left = residuals(x, given) if given else x
        expected = prepared(left[40:], measure)[points]
        assert (shown.read(tmp_path, "block1") == expected).all()
        assert (shown.read_fit(tmp_path, "block1") == prepared(left[:40], measure)).all()
