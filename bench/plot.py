"""Line charts as SVG text, one panel below the other on a common axis; nothing to install."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 760, 150  # of one panel, in pixels
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 30, 22


class Panel(NamedTuple):
    """A title with its unit, and a value for each place on the axis; a gap where it is None."""

    title: str
    values: Sequence[float | None]


def plot(title: str, unit: str, places: Sequence[float], panels: Sequence[Panel]) -> str:
    """An SVG document. Each panel's axis begins at 0."""
    height = TOP + len(panels) * (HEIGHT + TOP) + BOTTOM
    span = max(places, default=0.0) or 1.0
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="20" font-size="14" font-weight="bold" fill="#222222">{escape(title)}</text>',
    ]
    for number, panel in enumerate(panels):
        parts += _panel(panel, places, span, TOP + number * (HEIGHT + TOP) + TOP)
    step = nice(span / 6)
    for i in range(int(span / step) + 1):
        x = _x(i * step, span)
        parts.append(f'<text x="{x:.1f}" y="{height - 10}" text-anchor="middle" fill="#555555">{i * step:g}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{height - 10}" text-anchor="end" fill="#555555">{escape(unit)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def nice(least: float) -> float:
    """The smallest of 1, 2 or 5 times a power of ten that is not below `least` (above 0)."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def _x(place: float, span: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * place / span


def _panel(panel: Panel, places: Sequence[float], span: float, top: int) -> list[str]:
    known = [value for value in panel.values if value is not None]
    step = nice(max([*known, 1.0]) / 3)
    most = step * max(1, math.ceil(max(known, default=0.0) / step))
    parts = [f'<text x="{LEFT}" y="{top - 8}" fill="#222222">{escape(panel.title)}</text>']
    for i in range(round(most / step) + 1):
        y = top + HEIGHT * (1 - i * step / most)
        parts += [
            f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#dddddd"/>',
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#555555">{i * step:g}</text>',
        ]
    for run in _runs(panel.values):
        points = " ".join(f"{_x(places[i], span):.1f},{top + HEIGHT * (1 - value / most):.1f}" for i, value in run)
        parts.append(f'<polyline points="{points}" fill="none" stroke="#1f5fa8" stroke-width="1.5"/>')
    return parts


def _runs(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """Stretches without a gap, as (index, value)."""
    runs: list[list[tuple[int, float]]] = [[]]
    for i, value in enumerate(values):
        if value is not None:
            runs[-1].append((i, value))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]
