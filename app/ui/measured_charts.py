"""Charts of what was measured with the decoder, from the figures that the experiments keep in app/charts."""

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import altair as alt

__all__ = ["COLOURS", "Chart", "measured_chart", "measured_charts"]

COLOURS = ["#2f8fd8", "#d9730d", "#2fa866", "#9467bd"]  # told apart in light and dark
_HEIGHT = 280


@dataclass(frozen=True)
class Chart:
    """One chart of an experiment.

    Attributes:
        title: What is shown.
        x: What stands below, with its unit.
        y: What stands at the left, with its unit.
        lines: By name: (x, y) of each point.
        found: What it shows, in a sentence.
        about: Machine, date and command.
        log_y: Whether y grows by factors.
    """

    title: str
    x: str
    y: str
    lines: dict[str, list[tuple[float, float]]]
    found: str
    about: str
    log_y: bool = False


def measured_charts() -> list[Chart]:
    """The charts that are there, by the names of their files."""
    folder = files("longleaf.app") / "charts"
    if not folder.is_dir():
        return []
    kept = sorted((each for each in folder.iterdir() if each.name.endswith(".json")), key=lambda each: each.name)
    return [Chart(**json.loads(each.read_text(encoding="utf-8"))) for each in kept]


def measured_chart(chart: Chart) -> alt.Chart:
    """Draws it; x grows by factors of two."""
    rows: list[dict[str, Any]] = [
        {"of": name, "x": x, "y": y} for name, points in chart.lines.items() for x, y in points
    ]
    kinds = list(chart.lines)
    ticks = sorted({row["x"] for row in rows})
    drawn: alt.Chart = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_line(point=alt.OverlayMarkDef(size=35, filled=True), strokeWidth=2.5)
        .encode(
            x=alt.X(
                "x:Q",
                title=chart.x,
                scale=alt.Scale(type="log", base=2),
                axis=alt.Axis(
                    values=ticks,
                    labelExpr="datum.value >= 1024 ? datum.value / 1024 + 'K' : datum.value",
                    grid=False,
                    labelOverlap=True,
                ),
            ),
            y=alt.Y(
                "y:Q", title=chart.y, scale=alt.Scale(type="log" if chart.log_y else "linear", zero=not chart.log_y)
            ),
            color=alt.Color(
                "of:N",
                sort=kinds,
                scale=alt.Scale(domain=kinds, range=COLOURS[: len(kinds)]),
                legend=alt.Legend(title=None, orient="top", columns=2, labelLimit=300, symbolStrokeWidth=3),
            ),
            tooltip=[
                alt.Tooltip("of:N", title="model"),
                alt.Tooltip("x:Q", title=chart.x, format=",d"),
                alt.Tooltip("y:Q", title=chart.y, format=",.3~g"),
            ],
        )
        .properties(height=_HEIGHT, description=f"{chart.title}. {chart.found}")
    )
    return drawn
