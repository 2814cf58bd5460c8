"""Shows how a piece of long work stands: its place in the line, its stage with figures and time left, and Stop."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from longleaf.app.page_view import plain
from longleaf.app.work_queue import Job, JobView

__all__ = ["REFRESH_S", "draw_progress", "stage_line", "time_left"]

REFRESH_S = 0.4
"""Seconds between two drawings of work that goes on (`st.fragment(run_every=REFRESH_S)`)."""


def draw_progress(
    job: Job[Any], *, key: str, title: str = "", on_stop: Callable[[], None] | None = None
) -> JobView[Any]:
    """Draws a job that is not over yet, with its Stop button; to be called inside a fragment that runs again.

    Args:
        job: The work.
        key: Tells its button from those of others.
        title: What is done, before the stage; "" where the place says it.
        on_stop: What the Stop button does; by default it stops the job.

    Returns:
        How it stands: the caller draws what came of it once it is finished.
    """
    view = job.view()
    if view.finished:
        return view
    with st.container(horizontal=True, vertical_alignment="center", key=f"job-{key}"):
        text = plain(": ".join(part for part in (title, stage_line(view)) if part))
        if view.state == "answering" and view.done < view.total > 1:
            st.progress(min(view.done / view.total, 1.0), text)
        else:
            st.markdown(f":material/hourglass_top: {text}")
        stop = "Stopping" if view.stopping else "Stop"
        st.button(
            stop, key=f"stop-{key}", on_click=on_stop or job.stop, disabled=view.stopping, icon=":material/stop_circle:"
        )
    return view


def stage_line(view: JobView[Any]) -> str:
    """Such as "embedding passages: 32 of 210, 14 s left" or "waiting: 2 in line before it"."""
    if view.state == "waiting":
        before = (view.place or 1) - 1
        return f"waiting: {before} in line before it" if before else "next in line"
    text = view.stage or "starting"
    if view.done < view.total > 1:
        text += f": {view.done:,} of {view.total:,}"
    if view.seconds_left is not None and view.total > 1:
        text += f", {time_left(view.seconds_left)} left"
    return text


def time_left(seconds: float) -> str:
    """Rounded as one says it: "8 s", "3 min", "1 h 20 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
