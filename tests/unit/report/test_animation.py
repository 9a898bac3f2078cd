"""Animated GIFs, read by Pillow."""

import dataclasses
import io
import itertools
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from tasklens import InputError, View, animation
from tasklens.report.style import PALETTE
from views import VIEW_TASK, planted_view

SMALL: dict[str, Any] = {"size": 160, "pace": 0.3}
LARGE: dict[str, Any] = {"size": 400, "pace": 0.1}


def pictures(gif: bytes) -> tuple[list[NDArray[Any]], list[int]]:
    """Return the pictures, (height, width, 3) each, and the milliseconds of each."""
    image = Image.open(io.BytesIO(gif))
    assert image.format == "GIF"
    assert image.info["loop"] == 0, "it repeats"
    shown, durations = [], []
    for picture in ImageSequence.Iterator(image):
        shown.append(np.asarray(picture.convert("RGB")).astype(int))
        durations.append(picture.info["duration"])
    return shown, durations


def test_it_leads_from_checkpoint_to_checkpoint_and_stays_at_the_last() -> None:
    gif = animation(planted_view(), "block2", **SMALL)
    shown, durations = pictures(gif)
    assert len(shown) == 2 * 3 + 1, "three pictures from each of three checkpoints to the next"
    assert durations == [100] * 6 + [2000]
    assert shown[0].shape[0] == SMALL["size"]
    assert gif == animation(planted_view(), "block2", **SMALL)
    assert all((a != b).any() for a, b in itertools.pairwise(shown))


def test_the_last_picture_is_the_map_of_the_last_checkpoint() -> None:
    """Like that of a view that has always been at its last checkpoint, in exact colours."""
    view = planted_view()
    (*_, last), _ = pictures(animation(view, "block2", map="pca", **LARGE))
    still = {key: np.repeat(places[-1:], 3, axis=0) for key, places in points(view).maps.items()}
    (standing, *_), _ = pictures(animation(replaced(view, maps=still), "block2", **LARGE))
    (*_, tsne), _ = pictures(animation(view, "block2", **LARGE))
    assert (last != tsne).any()
    area = slice(80, None)  # below the title, which names the checkpoint
    assert (standing[area] == tsne[area]).all()
    drawn = {tuple(color) for color in last.reshape(-1, 3).tolist()}
    for color in (*PALETTE[: len(np.unique(VIEW_TASK))], "#ffffff"):
        assert tuple(round(255 * part) for part in to_rgb(color)) in drawn


def points(view: View) -> Any:
    return view.splits["val_subset"]


def replaced(view: View, **changes: Any) -> View:
    splits = {**view.splits, "val_subset": dataclasses.replace(points(view), **changes)}
    return dataclasses.replace(view, splits=splits)


def test_a_model_without_training_moves_through_its_states() -> None:
    view = planted_view(checkpoints=1)
    shown, _ = pictures(animation(view, **SMALL))
    assert len(shown) == (len(view.states) - 1) * 3 + 1
    stages = dataclasses.replace(planted_view(), step_names={0: "base", 10: "sft", 40: "rl"})
    assert len(pictures(animation(stages, **SMALL))[0]) == (len(view.states) - 1) * 3 + 1
    assert len(pictures(animation(stages, "block1", **SMALL))[0]) == 2 * 3 + 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"size": 99}, "size = 99: should be from 100 to 2,000"),
        ({"pace": float("nan")}, "pace = nan: should be from 0.1 to 10.0"),
        ({"map": "umap"}, "no map 'umap'"),
        ({"color": "form"}, "no colour by 'form'"),
        ({"state": "block9"}, "block9"),
        ({"split": "test"}, "test"),
    ],
)
def test_a_wrong_choice_is_named(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        animation(planted_view(), **options)


def test_one_picture_is_no_animation() -> None:
    with pytest.raises(InputError, match="nothing moves"):
        animation(planted_view(checkpoints=1), "block2")
