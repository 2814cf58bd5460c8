"""The chart of memory over context length: a model beside a pure Transformer of its size, and the memory at hand."""

from collections.abc import Sequence
from typing import Any

import altair as alt

from longleaf.app.fit import FigureRow, Memory

__all__ = ["TRANSFORMER", "chart_points", "memory_chart", "shown_memories"]

TRANSFORMER = "a pure Transformer of its size"

_MODEL_COLOUR, _TRANSFORMER_COLOUR = "#2f8fd8", "#d9730d"  # told apart by every kind of colour vision, light and dark
_GREY = "#8a8a8a"
_HEIGHT = 320
_ROOM_ABOVE = 2.2


def chart_points(name: str, rows: Sequence[FigureRow]) -> list[dict[str, Any]]:
    """What is drawn: for each line and context its tokens and bytes."""
    points = []
    for row in rows:
        points.append({"tokens": row.tokens, "of": name, "bytes": row.model.total_bytes})
        if row.transformer is not None:
            points.append({"tokens": row.tokens, "of": TRANSFORMER, "bytes": row.transformer.total_bytes})
    return points


def shown_memories(points: Sequence[dict[str, Any]], memories: Sequence[Memory]) -> list[Memory]:
    """The memories that are drawn: one far above all lines would press them flat."""
    top = max(point["bytes"] for point in points)
    return [memory for memory in memories if memory.size_bytes <= _ROOM_ABOVE * top]


def memory_chart(name: str, rows: Sequence[FigureRow], memories: Sequence[Memory]) -> alt.LayerChart | alt.FacetChart:
    """Draws it, in GB of 10⁹ bytes; the same figures have to stand beside it as text.

    Args:
        name: The model's.
        rows: From `ModelFit.rows`.
        memories: Those to compare with, each a dashed line where it is not far above.
    """
    points = chart_points(name, rows)
    kinds = list(dict.fromkeys(point["of"] for point in points))
    colours = [_MODEL_COLOUR, _TRANSFORMER_COLOUR][: len(kinds)]
    data = [{**point, "gb": point["bytes"] / 1e9, "k": f"{point['tokens'] // 1024}K tokens"} for point in points]
    x = alt.X(
        "tokens:Q",
        title="context, tokens",
        scale=alt.Scale(domain=[0, max(point["tokens"] for point in points)], nice=False),
        axis=alt.Axis(
            values=[n * 1024 for n in (32, 64, 128, 192, 256)], labelExpr="datum.value / 1024 + 'K'", grid=False
        ),
    )
    lines = (
        alt.Chart(alt.InlineData(values=data))
        .mark_line(point=alt.OverlayMarkDef(size=35, filled=True), strokeWidth=2.5)
        .encode(
            x=x,
            y=alt.Y("gb:Q", title="memory, GB", scale=alt.Scale(zero=True)),
            color=alt.Color(
                "of:N",
                sort=kinds,
                scale=alt.Scale(domain=kinds, range=colours),
                legend=alt.Legend(title=None, orient="top", columns=1, labelLimit=400, symbolStrokeWidth=3),
            ),
            tooltip=[
                alt.Tooltip("of:N", title="model"),
                alt.Tooltip("k:N", title="context"),
                alt.Tooltip("gb:Q", title="GB", format=",.1f"),
            ],
        )
    )
    marks = [
        {"gb": memory.size_bytes / 1e9, "text": f"{memory.name}: {memory.size_bytes / 1e9:,.1f} GB"}
        for memory in shown_memories(points, memories)
    ]
    layers = [lines]
    if marks:
        base = alt.Chart(alt.InlineData(values=marks)).encode(y=alt.Y("gb:Q"))
        layers += [
            base.mark_rule(strokeDash=[6, 4], color=_GREY, strokeWidth=1.5),
            base.mark_text(align="left", dx=4, dy=-7, color=_GREY, fontSize=12).encode(text="text:N", x=alt.value(0)),
        ]
    said = (
        f"Memory in GB over context length of {' and of '.join(kinds)}. The figures are in the table beside the chart."
    )
    return alt.layer(*layers).properties(height=_HEIGHT, description=said)
