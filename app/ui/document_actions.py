"""What can be done with the documents that are chosen in the library."""

from collections.abc import Callable

import streamlit as st

from longleaf.app.catalog import what_goes
from longleaf.app.page_view import plain
from longleaf.app.service import Service
from longleaf.app.ui import viewer
from longleaf.app.ui.chat_list import new_chat
from longleaf.app.ui.session import notice, owner
from longleaf.errors import LongleafError
from longleaf.ingestion import Document

__all__ = ["ask_about", "draw_actions"]


def draw_actions(service: Service, chosen: list[Document]) -> None:
    """Draws the buttons; those that a choice does not allow are off, and say why."""
    one = chosen[0] if len(chosen) == 1 else None
    ready = [document for document in chosen if document.state == "ready"]
    with st.container(horizontal=True, key="document-actions"):
        ask = "Ask" if len(chosen) < 2 else f"Ask {len(chosen)} together"
        if st.button(ask, icon=":material/forum:", type="primary", disabled=not ready, key="ask-chosen"):
            ask_about(ready)
        if st.button("Open", icon=":material/menu_book:", disabled=one is None, key="open-chosen") and one:
            ask_about([one] if one.state == "ready" else [], page_of=one)
        if st.button("Summary", icon=":material/summarize:", disabled=one not in ready, key="sum-chosen") and one:
            st.switch_page("screens/summary.py", query_params={"document": one.sha256[:12]})
        if st.button("Rename", icon=":material/edit:", disabled=one is None, key="rename-chosen") and one:
            _rename(service, one)
        if st.button("To a collection", icon=":material/create_new_folder:", disabled=not chosen, key="collect-chosen"):
            _collect(service, chosen)
        if st.button("Remove", icon=":material/delete:", disabled=not chosen, key="remove-chosen"):
            _remove(service, chosen)
    for document in chosen:
        if document.state != "ready":
            st.button(
                f"Go on with {plain(document.name)}",
                key=f"go-on-{document.sha256[:8]}",
                icon=":material/play_arrow:",
                on_click=_said,
                args=(lambda document=document: service.go_on(document, owner=owner()), "It goes on."),
            )
    if not chosen:
        st.caption("Choose a document to open, ask, rename or remove it; several, to ask them together.")


def ask_about(documents: list[Document], collection: str | None = None, *, page_of: Document | None = None) -> None:
    """Goes on to a new chat about these documents, with the first page of one beside it where that is wanted."""
    state = st.session_state
    new_chat()
    viewer.close()
    state.pop("ask_chosen", None)
    state["ask_documents"] = [document.sha256 for document in documents]
    state["ask_collection"] = collection
    link = {"document": page_of.sha256[:12], "page": "1"} if page_of else None
    st.switch_page("screens/ask.py", query_params=link)


def _said(work: Callable[[], object], text: str) -> None:
    """Does it, and has told what came of it."""
    try:
        work()
    except LongleafError as exc:
        notice(str(exc))
    else:
        notice(text)


@st.dialog("Rename")
def _rename(service: Service, document: Document) -> None:
    def rename() -> None:
        name = st.session_state["new-document-name"]
        _said(lambda: service.rename(document, name), "Renamed.")

    with st.form("rename-document-form", border=False):  # the Enter key renames too
        st.text_input("Name", document.name, max_chars=200, key="new-document-name")
        st.caption("What was read of it stays, and so do its chats.")
        if st.form_submit_button("Rename", type="primary", key="rename-document-now", on_click=rename):
            st.rerun()


@st.dialog("Remove from the library?")
def _remove(service: Service, documents: list[Document]) -> None:
    names = ", ".join(document.name for document in documents[:5])
    more = f" and {len(documents) - 5} more" if len(documents) > 5 else ""
    st.markdown(f"**{plain(names)}{more}**")
    st.markdown(plain(f"This goes: {what_goes(service, documents)}"))

    def remove() -> None:
        viewer.close()
        _said(lambda: service.remove(documents), "Removed, with all that came from it.")

    if st.button("Remove", type="primary", key="remove-documents-now", on_click=remove):
        st.rerun()


@st.dialog("Put into a collection")
def _collect(service: Service, documents: list[Document]) -> None:
    known = [collection.name for collection in service.library.collections.all()]
    st.selectbox(
        "Collection",
        known,
        index=None,
        accept_new_options=True,
        placeholder="Choose one, or type the name of a new one",
        key="collection-name",
    )

    def put() -> None:
        name = st.session_state["collection-name"] or ""
        _said(lambda: service.library.collections.put(name, documents), f"In the collection {name}.")

    if st.button("Put in", type="primary", key="collect-now", on_click=put):
        st.rerun()
