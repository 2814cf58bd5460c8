"""The models that Longleaf knows, with what fits this machine, and the downloads that go on."""

from typing import Any

import streamlit as st

from longleaf.app.fit import best_fit, shape_before_fetching
from longleaf.app.models_view import model_rows
from longleaf.app.page_view import plain
from longleaf.app.render import human_bytes
from longleaf.app.service import Service
from longleaf.app.ui.figures import row_html
from longleaf.app.ui.jobs import REFRESH_S, draw_progress
from longleaf.app.ui.session import notice, owner
from longleaf.app.work_queue import Job
from longleaf.errors import LongleafError
from longleaf.model import MODELS
from longleaf.model.machine import total_memory_bytes

__all__ = ["draw_downloads", "draw_fetch_button", "draw_models"]

_COLUMNS = "minmax(0, 2.4fr) 4.9rem 4.9rem 6.6rem 5.2rem minmax(0, 1.5fr)"
_BUTTON_WIDTH = 104


def draw_fetch_button(service: Service, name: str, label: str, *, key: str, **look: Any) -> None:
    """Draws the button that fetches a model; while it is being fetched it can't be pressed."""
    job = service.pull_job(name)
    busy = job is not None and not job.view().finished
    st.button(
        "Fetching" if busy else label,
        key=key,
        disabled=busy,
        icon=":material/download:",
        on_click=_fetch,
        args=(service, name),
        **look,
    )


def draw_downloads(service: Service) -> None:
    """Draws the downloads of all who use this server, and what came of those that did not come to their end."""
    latest = {job.title: job for job in service.work.jobs() if job.kind == "model"}
    running = [job for job in latest.values() if not job.view().finished]
    if running:
        _follow(running)
    read = st.session_state.setdefault("downloads_read", set())
    for job in latest.values():
        view = job.view()
        if job.id in read or view.state not in ("failed", "stopped"):
            continue
        with st.container(horizontal=True, vertical_alignment="center", key=f"download-{job.id}"):
            if view.state == "failed":
                st.error(plain(f"{view.title} was not fetched: {view.error}"), icon=":material/error:")
            else:
                st.info(plain(f"{view.title}: stopped. Fetch it again to go on: files that are whole are kept."))
            st.button("Dismiss", key=f"dismiss-{job.id}", type="tertiary", on_click=read.add, args=(job.id,))


@st.fragment(run_every=REFRESH_S)
def _follow(jobs: list[Job[Any]]) -> None:
    """Shows downloads as they go on, and draws the page anew when one of them is over."""
    views = [draw_progress(job, key=job.id, title=f"Fetching {job.title}") for job in jobs]
    if any(view.stopping for view in views):
        st.caption("A file that is on its way from the model hub is fetched to its end first.")
    over = [view for view in views if view.finished]
    for view in over:
        if view.state == "answered":
            notice(f"{view.title} is here.")
    if over:
        st.rerun(scope="app")


def draw_models(service: Service) -> None:
    """Draws all models: those that are here and those that come as one small file first, the hub's folded.

    Raises:
        LongleafError: The list can't be made.
    """
    st.subheader("All models", anchor=False)
    rows = model_rows(service.settings)
    near = [row for row in rows if row["installed"] or row["name"] in MODELS]
    far = [row for row in rows if row not in near]
    near.sort(key=lambda row: not row["installed"])
    for row in near:
        _draw_model(service, row)
    with st.expander(f"{len(far)} more on the model hub", icon=":material/cloud:"):
        for row in far:
            _draw_model(service, row)
    with st.container(horizontal=True, vertical_alignment="bottom", key="fetch-other"):
        st.text_input(
            "Another model of the hub",
            key="hub-name",
            placeholder="org/name of a repository with safetensors",
            max_chars=200,
        )
        st.button("Fetch", key="fetch-hub-name", icon=":material/download:", on_click=_fetch_typed, args=(service,))
    if error := st.session_state.pop("fetch_error", ""):
        st.error(plain(error), icon=":material/error:")
    st.caption(
        "A model that is here answers when Longleaf is started with it: `LONGLEAF_READER=name longleaf app`. "
        "The page does not change the model of a server that others may be asking."
    )


def _draw_model(service: Service, row: dict[str, Any]) -> None:
    name = row["name"]
    title = row["title"] if row["title"] != name else ""
    licence = f"{row['licence']}{', gated' if row['gated'] else ''}"
    facts = [
        ("role", row["role"]),
        ("size", human_bytes(row["size_bytes"])),
        ("context", f"{row['context_tokens']:,} tokens" if row["context_tokens"] else ""),
        ("where", ("in use" if _is_used(service, row) else "here") if row["installed"] else "not here"),
        ("on this machine", _fits(service, row)),
    ]
    with st.container(horizontal=True, vertical_alignment="center", key=f"model-{name.replace('/', '--')}"):
        st.html(row_html(name, ", ".join(filter(None, (title, licence))), facts, _COLUMNS))
        if row["installed"]:
            st.html("<span></span>", width=_BUTTON_WIDTH)  # the columns of all rows end at the same place
        else:
            look = {
                "type": "tertiary",
                "width": _BUTTON_WIDTH,
                "help": plain(f"Fetch {name}, {human_bytes(row['size_bytes'])}"),
            }
            draw_fetch_button(service, name, "Fetch", key=f"fetch-{name}", **look)


def _is_used(service: Service, row: dict[str, Any]) -> bool:
    loaded = service.answerer.reader if row["role"] == "reader" else service.answerer.embedder
    return bool(row["default"]) and loaded is not None


def _fits(service: Service, row: dict[str, Any]) -> str:
    """What of it fits this machine, in a few words."""
    memory = total_memory_bytes()
    if row["role"] != "reader":
        return "fits" if row["size_bytes"] < memory else "does not fit"
    try:
        fit = best_fit(shape_before_fetching(row["name"], service.settings), memory)
    except LongleafError as exc:
        return f"can't be planned: {exc}"
    how = " in int8" if fit.weights == "int8" else ""
    if fit.tokens == 0:
        return f"does not fit: {human_bytes(fit.total_bytes)}{how}"
    return f"any context fits{how}" if fit.tokens is None else f"{fit.tokens:,} tokens fit{how}"


def _fetch(service: Service, name: str) -> None:
    try:
        service.pull_model(name, owner=owner())
    except LongleafError as exc:
        notice(str(exc))


def _fetch_typed(service: Service) -> None:
    name = st.session_state["hub-name"].strip()
    if not name:
        st.session_state["fetch_error"] = "Type the name of a repository first, as org/name."
        return
    try:
        service.pull_model(name, owner=owner())
    except LongleafError as exc:
        st.session_state["fetch_error"] = str(exc)
