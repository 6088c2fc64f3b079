"""Outlines of phantom bones, in cm of a body of 170 cm.

x points to the patient's left, y down from the crown.
"""

from collections.abc import Sequence

import numpy as np

Outline = np.ndarray  # corners x 2
Shape = tuple[Outline, float]  # an outline and its uptake


def strip(
    points: Sequence[tuple[float, float]] | np.ndarray, widths: float | Sequence[float]
) -> Outline:
    """Return a band along a line, as long bones and ribs are.

    Args:
        points: The line, `points x 2`, at least two.
        widths: Of the band, one for all or one a point.

    Returns:
        `2 * points x 2`.
    """
    line = np.asarray(points, float)
    along = np.gradient(line, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = along[:, ::-1] * (-1, 1) * np.broadcast_to(widths, len(line))[:, None] / 2
    return np.concatenate([line + across, (line - across)[::-1]])


def ellipse(x: float, y: float, across: float, down: float, turn: float = 0.0) -> Outline:
    """Return an ellipse, `24 x 2`.

    Its half axes are `across` and `down`, turned from x towards y by `turn` radians.
    """
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    u, v = across * np.cos(angle), down * np.sin(angle)
    return np.stack(
        [x + np.cos(turn) * u - np.sin(turn) * v, y + np.sin(turn) * u + np.cos(turn) * v], 1
    )


def blot(
    random: np.random.Generator,
    middle: tuple[float, float],
    across: float,
    down: float,
    turn: float = 0.0,
    roughness: float = 0.2,
) -> Outline:
    """Return an irregular ellipse, `40 x 2`.

    Args:
        random: Source of the irregularity.
        middle: Its x and y in cm.
        across: Half axis along x in cm, before the turn.
        down: Half axis along y in cm, before the turn.
        turn: In radians.
        roughness: Deviation of the radius as a share of it.
    """
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    waves = [
        random.normal(0, 1 / order) * np.cos(order * angle + random.uniform(0, 2 * np.pi))
        for order in (2, 3, 4, 5)
    ]
    radius = np.clip(1 + roughness * np.sum(waves, 0), 0.4, 1.7)
    u, v = across * radius * np.cos(angle), down * radius * np.sin(angle)
    return np.stack(
        [
            middle[0] + np.cos(turn) * u - np.sin(turn) * v,
            middle[1] + np.sin(turn) * u + np.cos(turn) * v,
        ],
        1,
    )


def mirrored(outline: Outline) -> Outline:
    """Mirror an outline to the patient's other side."""
    return outline * (-1, 1)
