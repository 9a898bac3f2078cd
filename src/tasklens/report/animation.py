"""Draw a map that moves through the checkpoints of a run, as an animated GIF.

The report's page plays the same. A model that was not trained here has no checkpoints to play
through: then the map moves through its hidden states.
"""

import io
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from PIL import Image
from scipy.spatial.distance import cdist

from tasklens.core.errors import InputError
from tasklens.report.map_drawing import Color, MapDrawing
from tasklens.report.style import IN_TITLE, SYMBOLS, drawable, in_style, new_figure, symbol
from tasklens.report.view import PLANES, Doubles, Floats, Map, View

#: Pictures per second, and the milliseconds for which the last one stays.
RATE, STAYS = 10, 2000
#: What every GIF has, by which it is recognised.
COMMENT = b"made by tasklens"
#: Limits of the height in pixels and of the seconds per checkpoint.
SIZES, PACES = (100, 2000), (0.1, 10.0)

Pixels: TypeAlias = npt.NDArray[np.int64]
Keyframe: TypeAlias = tuple[str, int]
"""A hidden state and the index of a checkpoint."""


@in_style
def animation(
    view: View,
    state: str | None = None,
    split: str | None = None,
    color: Color = "task",
    map: Map = "tsne",
    *,
    size: int = 480,
    pace: float = 0.5,
) -> bytes:
    """Return an animated GIF of a hidden state from the first checkpoint to the last.

    Points glide in a straight line from their coordinates at a checkpoint to those at the next. The
    same view gives the same bytes with the same versions of Matplotlib and Pillow. A map of t-SNE
    is fitted to the frame at each checkpoint; the others have one scale.

    Parameters
    ----------
    view : View
        From `tasklens.Run.view`.
    state : str, optional
        A hidden state; by default the best. If there is no training to show, by default the map
        moves through all hidden states of the last model.
    split, color, map
        See `tasklens.figure_map`.
    size : int
        Height in pixels, from 100 to 2,000. A legend makes the picture wider than high.
    pace : float
        Seconds from a checkpoint to the next, from 0.1 to 10.

    Raises
    ------
    InputError
        If there is no such hidden state, split, colour or map, or only one picture. Also if `size`
        or `pace` is out of bounds.

    Examples
    --------
    >>> import tasklens as tl
    >>> from pathlib import Path
    >>> gif = tl.animation(tl.load_run("runs/smoke").view(), "block2", size=240)
    >>> Path("forming.gif").write_bytes(gif) > 0
    True
    """
    for name, value, (least, most) in (("size", size, SIZES), ("pace", pace, PACES)):
        if not least <= value <= most:
            raise InputError(f"{name} = {value}: should be from {least:,} to {most:,}")
    drawing = MapDrawing(view, split, color, map, names=False)
    keyframes = _keyframes(view, state)
    if len(keyframes) < 2:
        raise InputError(f"{view.run}: one checkpoint of one hidden state: nothing moves")
    between = max(1, round(pace * RATE))
    pictures = _draw(drawing, keyframes, between, size)
    return _gif(pictures, round(1000 * pace / between))


def _keyframes(view: View, state: str | None) -> list[Keyframe]:
    """Return the hidden states and checkpoints through which the map moves."""
    last = len(view.steps) - 1
    if state is None and (last == 0 or view.step_names):
        return [(each, last) for each in view.states]
    name = view.state(state)
    return [(name, checkpoint) for checkpoint in range(last + 1)]


def _draw(drawing: MapDrawing, keyframes: list[Keyframe], between: int, size: int) -> list[Pixels]:
    """Return the pictures, of which `between` lead from one keyframe to the next."""
    figure = new_figure(3.4, 3.85, "compressed")
    figure.set_dpi(size / figure.get_figheight())
    ax = figure.subplots()
    ax.set(xticks=[], yticks=[], aspect="equal", xlim=(-1.06, 1.06), ylim=(-1.06, 1.06))
    for spine in ax.spines.values():
        spine.set(visible=True, color="0.8")
    _set_title(ax, drawing, keyframes[-1])
    values = [drawing.values(*keyframe) for keyframe in keyframes]
    drawing.add_legend(figure, np.unique(np.concatenate(values)))
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # all pictures have the layout of the last
    groups = _groups(ax, np.unique(drawing.numbers(np.unique(np.concatenate(values))) % SYMBOLS))
    places, pictures = _in_frame(drawing, keyframes), []
    for i in range((len(keyframes) - 1) * between + 1):
        number, part = divmod(i, between)
        t = (part / between) ** 2 * (3 - 2 * part / between)
        following = min(number + 1, len(keyframes) - 1)
        if part == 0:
            _set_title(ax, drawing, keyframes[number])
            symbols = drawing.numbers(values[number]) % SYMBOLS
        located = places[number] + t * (places[following] - places[number])
        for each, collection in groups.items():
            collection.set_offsets(located[symbols == each])
        pictures.append(_picture(figure))
    return pictures


def _groups(ax: Axes, numbers: npt.NDArray[np.int64]) -> dict[int, PathCollection]:
    """Return an empty collection of points for each number of a symbol."""
    groups = {}
    for number in numbers.tolist():
        color, marker, area = symbol(number)
        groups[number] = ax.scatter([], [], s=7 * area, color=color, marker=marker, linewidths=0)
    return groups


def _set_title(ax: Axes, drawing: MapDrawing, keyframe: Keyframe) -> None:
    """Name a keyframe above the map."""
    state, checkpoint = keyframe
    name = drawable(drawing.view.step_name(checkpoint), IN_TITLE)
    first = f"{drawable(state, IN_TITLE)}, {name}"
    ax.set_title("\n".join([first, drawing.title, *drawing.score(*keyframe)]))


def _in_frame(drawing: MapDrawing, keyframes: list[Keyframe]) -> list[Doubles]:
    """Return the coordinates of the points at each keyframe, (N, 2) each, from -1 to 1."""
    maps: list[Floats] = [drawing.coordinates(*keyframe) for keyframe in keyframes]
    one_scale = drawing.map in PLANES and len({state for state, _ in keyframes}) == 1
    squares = [np.concatenate(maps) if one_scale else each for each in maps]
    places = []
    for each, square in zip(maps, squares, strict=True):
        low, high = square.min(axis=0), square.max(axis=0)
        half = max(float((high - low).max()) / 2, 1e-6)
        places.append((each.astype(np.float64) - (low + high) / 2) / half)
    return places


def _picture(figure: Figure) -> Pixels:
    """Return what a figure shows: a number for the colour of each pixel, (height, width)."""
    figure.canvas.draw()
    rgba = np.asarray(figure.canvas.buffer_rgba())  # type: ignore[attr-defined]
    red, green, blue = np.moveaxis(rgba[..., :3].astype(np.int64), -1, 0)
    colors: Pixels = red << 16 | green << 8 | blue
    return colors


def _gif(pictures: list[Pixels], milliseconds: int) -> bytes:
    """Return pictures as a GIF that repeats, in the most frequent colours of the last one."""
    colors, counts = np.unique(pictures[-1], return_counts=True)
    palette = np.sort(colors[np.argsort(-counts, kind="stable")[:256]])
    few = []
    for picture in pictures:
        few.append(Image.fromarray(_nearest(picture, palette)))
        few[-1].putpalette(_channels(palette).astype(np.uint8).tobytes())
    sink = io.BytesIO()
    durations = [milliseconds] * (len(few) - 1) + [STAYS]
    few[0].save(
        sink,
        format="GIF",
        save_all=True,
        append_images=few[1:],
        duration=durations,
        loop=0,
        optimize=False,
        comment=COMMENT,
    )
    return sink.getvalue()


def _nearest(picture: Pixels, palette: Pixels) -> npt.NDArray[np.uint8]:
    """Return the index of the nearest colour of an ascending palette for each pixel.

    The quantisation of Pillow is coarser: white would not stay white.
    """
    index = np.minimum(np.searchsorted(palette, picture), len(palette) - 1)
    others = palette[index] != picture
    distinct, inverse = np.unique(picture[others], return_inverse=True)
    index[others] = cdist(_channels(distinct), _channels(palette)).argmin(axis=1)[inverse]
    return index.astype(np.uint8)


def _channels(colors: Pixels) -> Pixels:
    """Return red, green and blue of colours, (N, 3)."""
    return np.stack([colors >> 16, colors >> 8 & 255, colors & 255], axis=-1)
