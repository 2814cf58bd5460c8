"""Takes files from the browser, and shows each as it is taken in: how far it is, Stop, and what came of it."""

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import UploadedFile

from longleaf.app.page_view import plain
from longleaf.app.service import Service
from longleaf.app.ui.jobs import REFRESH_S, draw_progress
from longleaf.app.ui.session import owner
from longleaf.app.uploads import Outcome
from longleaf.app.work_queue import Job, JobView
from longleaf.errors import LongleafError
from longleaf.ingestion import Document

__all__ = ["FILE_TYPES", "draw_transfers", "draw_uploader"]

FILE_TYPES = ["pdf", "txt", "md"]

# Streamlit's own words on size are those of its limit, which stands far above ours.
STYLE = """<style>
[data-testid="stFileUploaderDropzoneInstructions"] span:last-child { display: none; }
.st-key-transfers { gap: .35rem; }
</style>"""


def draw_uploader(service: Service, key: str) -> None:
    """Draws the drop area; files go to disk at once, and into the line of work.

    Args:
        service: Takes them.
        key: Tells this uploader from others.
    """
    st.html(STYLE)
    state = st.session_state
    number = state.setdefault("n_uploads", 0)
    files = st.file_uploader(
        "Drop PDF, text or Markdown files here",
        FILE_TYPES,
        accept_multiple_files=True,
        key=f"upload-{key}-{number}",
        help=f"Up to {service.settings.max_upload_mb:,} MB each. They stay on the machine that Longleaf runs on.",
    )
    with st.popover("Encrypted PDF?", icon=":material/lock:", type="tertiary"):
        password = st.text_input(
            "Password of the files that you add next",
            type="password",
            key=f"password-{key}-{number}",
            help="Opens them once. It is not kept.",
        )
    if not files:
        return
    refused = []
    for file in files:
        try:
            service.add_file(file.name, file, owner=owner(), password=password or None)
        except LongleafError as exc:
            refused.append(str(exc))
        _let_go(file)
    state["refused"] = refused
    state["n_uploads"] = number + 1  # a new uploader, without the files of this one
    st.rerun()


def _let_go(file: UploadedFile) -> None:
    """Frees an upload's bytes, which Streamlit else holds in memory for as long as the session lasts.

    As its own chat input does it (streamlit 1.67, elements/widgets/chat.py); benchmarks/app_memory.py shows what for.
    """
    context = get_script_run_ctx()
    remove = getattr(context.uploaded_file_mgr, "remove_file", None) if context else None
    if context and remove:
        remove(session_id=context.session_id, file_id=file.file_id)


def draw_transfers(service: Service) -> bool:
    """Draws the files of this person that are being taken in, and what came of the others until it is put away.

    Returns:
        Whether any of them is over since the page was last drawn: there may be a document that it does not know yet.
    """
    state = st.session_state
    for number, text in enumerate(state.get("refused", [])):
        st.error(plain(text), icon=":material/error:")
        if st.button("Put away", key=f"refused-{number}", type="tertiary"):
            state["refused"].pop(number)
            st.rerun()
    if "told" not in state:  # what was over before this session began is no news to it
        state["told"] = {view.id for view in _views(service) if view.finished}
    news = _hear_of_finished(service)
    # One that is over by now, and was not a moment ago, is still to be heard of.
    if any(view.id not in state["told"] for view in _views(service)):
        _draw_running(service)
    else:
        _draw_finished(service)
    return news


def _hear_of_finished(service: Service) -> bool:
    """Has the page choose the documents that are there since it was last drawn; returns whether anything is over."""
    state = st.session_state
    newly = [view for view in _views(service) if view.finished and view.id not in state["told"]]
    state["told"].update(view.id for view in newly)
    added = [v.result.document.sha256 for v in newly if v.result and v.result.added and v.result.document]
    state["just_added"] = [*state.get("just_added", []), *added]
    return bool(newly)


@st.fragment(run_every=REFRESH_S)
def _draw_running(service: Service) -> None:
    """Draws itself again while files are being taken in; what is over makes the whole page new, once."""
    if _hear_of_finished(service):
        st.rerun(scope="app")
    with st.container(key="transfers"):
        for job in _jobs(service):
            draw_progress(job, key=job.id[:8], title=job.title)
    _draw_finished(service)


def _draw_finished(service: Service) -> None:
    """Draws what came of the files that were heard of: who reads "pages in" and asks at once asks that document."""
    for view in _views(service):
        if not view.finished or view.id not in st.session_state["told"]:
            continue
        outcome: Outcome | None = view.result
        text = outcome.text if outcome else view.error or "stopped"
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"transfer-{view.id[:8]}"):
            icon = "check" if outcome and outcome.added else "stop_circle" if view.state == "stopped" else "error"
            st.caption(f":material/{icon}: {plain(f'{view.title}: {text}')}")
            if outcome and outcome.document and not outcome.added:
                _button(view, "Go on", "Go on where it stopped", service, outcome.document)
            else:
                _button(view, "✕", "Put this message away", service, None)


def _button(view: JobView[Outcome], label: str, meaning: str, service: Service, unfinished: Document | None) -> None:
    st.button(
        label,
        key=f"done-{view.id[:8]}",
        help=meaning,
        type="tertiary",
        on_click=_put_away,
        args=(view.id, service, unfinished),
    )


def _put_away(job_id: str, service: Service, unfinished: Document | None) -> None:
    """Takes a line away, and goes on with the document that it is about where that was stopped."""
    service.work.forget(job_id)  # in the server, so that it does not come back with a refresh
    if unfinished is not None:
        service.go_on(unfinished, owner=owner())


def _jobs(service: Service) -> list[Job[Outcome]]:
    return [job for job in service.work.jobs(owner()) if job.kind == "file"]


def _views(service: Service) -> list[JobView[Outcome]]:
    return [job.view() for job in _jobs(service)]
