"""Contrast and distance of colours, also for readers without one kind of cones.

An independent implementation for the colours of figures and of the report's page.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: Matrices from linear RGB to the RGB that is seen without one kind of cones. From Machado,
#: Oliveira and Fernandes, "A physiologically-based model for simulation of color vision
#: deficiency", 2009, table 1, severity 1.0.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array([
        [0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ]),
    "deuteranopia": np.array([
        [0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]),
    "tritanopia": np.array([
        [1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ]),
}  # fmt: skip
#: From linear sRGB to CIE XYZ with the white point D65.
XYZ = np.array([
    [0.4124564, 0.3575761, 0.1804375],
    [0.2126729, 0.7151522, 0.0721750],
    [0.0193339, 0.1191920, 0.9503041],
])  # fmt: skip


def linear(colors: Sequence[str]) -> NDArray[np.float64]:
    """Return colours (#rrggbb) in linear RGB, (N, 3)."""
    rgb = np.array([list(bytes.fromhex(color.removeprefix("#"))) for color in colors]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def contrast(color: str, other: str) -> float:
    """Return the contrast ratio of two colours (WCAG 2.2), 1 to 21."""
    low, high = sorted((linear([color, other]) @ XYZ[1]).tolist())
    return float((high + 0.05) / (low + 0.05))


#: From linear sRGB to the responses of cones, and from their cube roots to Oklab. From Ottosson, "A
#: perceptual color space for image processing", 2020.
CONES = np.array([
    [0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
])  # fmt: skip
OKLAB = np.array([
    [0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
])  # fmt: skip


def oklab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return linear RGB in Oklab, (N, 3)."""
    lab: NDArray[np.float64] = np.cbrt(np.clip(rgb, 0, 1) @ CONES.T) @ OKLAB.T
    return lab


def closest(colors: Sequence[str], vision: str) -> float:
    """Return the smallest Oklab distance of two colours; 0.02 is just visible."""
    coordinates = oklab(linear(colors) @ VISION[vision].T)
    return min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(coordinates, 2))


#: What `closest` is at least, for the colours of points.
LEAST = {"normal": 0.16, "protanopia": 0.085, "deuteranopia": 0.085, "tritanopia": 0.07}
