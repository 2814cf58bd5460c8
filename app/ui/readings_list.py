"""The readings on disk: what was read once and need not be read again, with the buttons that remove it."""

import streamlit as st

from longleaf.app.page_view import plain
from longleaf.app.render import human_bytes
from longleaf.app.service import Service
from longleaf.app.ui.figures import row_html
from longleaf.app.ui.jobs import time_left
from longleaf.app.ui.session import notice
from longleaf.errors import LongleafError
from longleaf.model.readings import ReadingInfo
from longleaf.model.sources import folder_bytes

__all__ = ["draw_readings"]

_COLUMNS = "minmax(0, 2fr) 6.6rem 4.9rem 5.5rem minmax(0, 1fr) minmax(0, 1fr)"


def draw_readings(service: Service) -> None:
    """Draws all readings, what they take of their budget, and what can be done with them.

    Raises:
        LongleafError: Their folder can't be read.
    """
    st.subheader("Readings on disk", anchor=False)
    store = service.readings
    if service.settings.readings_dir is None:
        st.caption("No readings are kept: LONGLEAF_READINGS_BUDGET_BYTES is 0.")
    found = store.list()
    used = folder_bytes(store.folder)
    if not found:
        st.caption(
            "None yet. When a document is read as a whole, what the reader remembers of it is kept here, and the next "
            "question about it starts from there."
        )
        if used == 0:
            return
    saved = sum(reading.seconds for reading in found)
    with st.container(horizontal=True, vertical_alignment="center", key="readings-head"):
        if found:
            st.markdown(
                f"{_count(len(found))}, {human_bytes(used)} of {human_bytes(store.budget_bytes)}. Whoever asks about "
                f"these texts again need not wait {time_left(saved)} for their reading."
            )
        else:
            st.markdown(f"{human_bytes(used)} of readings that were not finished.")
        if st.button("Make room", key="prune-readings", icon=":material/cleaning_services:"):
            _prune(service, found, used)
    if store.budget_bytes:
        st.progress(min(used / store.budget_bytes, 1.0))
    for reading in found:
        with st.container(horizontal=True, vertical_alignment="center", key=f"reading-{reading.id[:16]}"):
            st.html(row_html(_label(reading), "", _facts(reading), _COLUMNS))
            if st.button(
                "Remove",
                key=f"remove-reading-{reading.id}",
                type="tertiary",
                icon=":material/delete:",
                help=plain(f"Remove the reading of {_label(reading)}"),
            ):
                _remove(service, reading)


@st.dialog("Make room on the disk")
def _prune(service: Service, found: list[ReadingInfo], used: int) -> None:
    budget = service.settings.readings_budget_bytes
    keep_gb = st.number_input(
        "Keep at most, in GB", 0.0, None, budget / 1e9, step=1.0, format="%g", key="readings-to-keep"
    )
    keep = round(keep_gb * 1e9)
    st.markdown(plain(what_goes(found, used, keep)))
    st.markdown("Documents, chats and answers stay. What is removed is read again when it is asked about again.")
    if st.button(
        "Make room",
        type="primary",
        key="prune-readings-now",
        on_click=_prune_now,
        args=(service, keep),
        width="stretch",
    ):
        st.rerun()


def what_goes(found: list[ReadingInfo], used: int, keep: int) -> str:
    """What making room would remove, in a sentence or two."""
    if used <= keep:
        return f"All of it fits: {human_bytes(used)}. Only files that nothing refers to any more go."
    if len(found) == 1 or keep == 0:
        each = ", ".join(f"{_label(reading)} ({reading.n_tokens:,} tokens)" for reading in found[:5])
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        all_of_them = "The only reading goes" if len(found) == 1 else f"All {len(found)} readings go"
        return f"{all_of_them}: {each}{more}." if found else "All that is there goes."
    return (
        f"At least {human_bytes(used - keep)} of {human_bytes(used)} go: of the {len(found)} readings those first that "
        "save the least time for the room they take."
    )


def _prune_now(service: Service, keep: int) -> None:
    try:
        freed = service.readings.prune(keep)
        notice(f"{human_bytes(freed)} freed, readings left: {len(service.readings.list())}")
    except LongleafError as exc:
        notice(str(exc))


@st.dialog("Remove this reading?")
def _remove(service: Service, reading: ReadingInfo) -> None:
    st.markdown(
        plain(
            f"{_label(reading)}: {human_bytes(reading.own_bytes)} will be free. Reading these {reading.n_tokens:,} "
            f"tokens again takes about {time_left(reading.seconds)}. The document and its answers stay."
        )
    )
    if st.button("Remove", type="primary", key="remove-reading-now", on_click=_remove_now, args=(service, reading)):
        st.rerun()


def _remove_now(service: Service, reading: ReadingInfo) -> None:
    try:
        freed = service.readings.remove([reading.id])
        notice(f"The reading is removed, {human_bytes(freed)} freed.")
    except LongleafError as exc:
        notice(str(exc))


def _facts(reading: ReadingInfo) -> list[tuple[str, str]]:
    return [
        ("length", f"{reading.n_tokens:,} tokens"),
        ("size", human_bytes(reading.size_bytes)),
        ("time", f"saves {time_left(reading.seconds)}"),
        ("last used", f"{reading.last_used_at[:16].replace('T', ' ')} UTC"),
        ("read by", reading.model_name),
    ]


def _label(reading: ReadingInfo) -> str:
    return reading.label or f"reading {reading.id[:8]}"


def _count(n: int) -> str:
    return f"{n} reading{'' if n == 1 else 's'}"
