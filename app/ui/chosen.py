"""Chooses what a new chat is about: documents by name, or a collection of them."""

import streamlit as st

from longleaf.app.page_view import plain
from longleaf.app.render import page_count
from longleaf.app.service import Service
from longleaf.app.ui import viewer
from longleaf.ingestion import Document

__all__ = ["choose_documents"]


def choose_documents(service: Service, documents: list[Document]) -> list[Document]:
    """Draws the choice for a new chat, and returns the documents chosen.

    By default that is what was just added, what the link names, or the newest document.
    """
    ready = {document.sha256: document for document in reversed(documents) if document.state == "ready"}
    st.subheader("Ask a question", anchor=False)
    if not ready:
        st.info("No document can be asked yet: wait until one has been read in, or go on with one in the Library.")
        return []
    _preset(list(ready))
    _choose_collection(service, ready)
    chosen = st.multiselect(
        "Documents to ask",
        list(ready),
        format_func=lambda sha256: f"{ready[sha256].name} · {page_count(ready[sha256].n_pages)}",
        key="ask_chosen",
        placeholder="Choose one or several",
    )
    st.session_state["ask_documents"] = chosen
    _forget_other_collection(service, ready, chosen)
    for sha256 in chosen:
        for warning in ready[sha256].warnings:
            st.caption(f":material/warning: {plain(ready[sha256].name)}: {plain(warning)}")
    if chosen:
        st.caption("Type a question below. The answer comes with the pages that it rests on; click one to see it.")
    return [ready[sha256] for sha256 in chosen]


def _preset(ready: list[str]) -> None:
    """Sets the choice where it was made elsewhere: by an upload, the library page or a link; else leaves it."""
    state = st.session_state
    added = [sha256 for sha256 in state.pop("just_added", []) if sha256 in ready]
    shown = viewer.shown()
    linked = [shown.sha256] if shown and shown.sha256 in ready and shown.sha256 != state.get("ask_linked") else []
    if added:
        state["ask_chosen"] = added
    elif linked:
        state["ask_linked"] = linked[0]
        state["ask_chosen"] = linked
    elif "ask_chosen" not in state:  # the first drawing, or the first after another page
        state["ask_chosen"] = state.get("ask_documents", ready[:1])
    state["ask_chosen"] = [sha256 for sha256 in state["ask_chosen"] if sha256 in ready]


def _choose_collection(service: Service, ready: dict[str, Document]) -> None:
    collections = service.library.collections.all()
    if not collections:
        return
    by_id = {document.id: sha256 for sha256, document in ready.items()}
    with st.container(horizontal=True, key="collections-to-ask"):
        for collection in collections[:8]:
            members = [by_id[key] for key in collection.document_ids if key in by_id]
            st.button(
                plain(collection.name),
                key=f"ask-collection-{collection.id}",
                help=f"Choose what it holds: {len(members)} document{'' if len(members) == 1 else 's'}",
                icon=":material/folder_special:",
                disabled=not members,
                on_click=_take_collection,
                args=(collection.name, members),
            )


def _forget_other_collection(service: Service, ready: dict[str, Document], chosen: list[str]) -> None:
    """A chat is of a collection where it is about just what that holds, and not where the choice was changed since."""
    state = st.session_state
    if name := state.get("ask_collection"):
        ids = next((each.document_ids for each in service.library.collections.all() if each.name == name), ())
        if set(chosen) != {sha256 for sha256, document in ready.items() if document.id in ids}:
            state["ask_collection"] = None


def _take_collection(name: str, members: list[str]) -> None:
    st.session_state["ask_chosen"] = members
    st.session_state["ask_collection"] = name
