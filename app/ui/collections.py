"""The collections of the library: sets of documents that are asked together."""

import streamlit as st

from longleaf.app.catalog import CatalogRow
from longleaf.app.page_view import plain
from longleaf.app.service import Service
from longleaf.app.ui.document_actions import ask_about
from longleaf.app.ui.session import notice
from longleaf.errors import LongleafError
from longleaf.ingestion import Document
from longleaf.ingestion.collections import Collection

__all__ = ["draw_collections"]


def draw_collections(service: Service, rows: list[CatalogRow]) -> None:
    """Draws each collection with its documents; documents stay whatever becomes of a collection."""
    collections = service.library.collections.all()
    st.subheader("Collections", anchor=False)
    if not collections:
        st.caption("None yet. Choose documents above and put them into one, to ask them together again and again.")
        return
    by_id = {row.document.id: row.document for row in rows}
    for collection in collections:
        members = [by_id[key] for key in collection.document_ids if key in by_id]
        n = len(members)
        with st.expander(f"{plain(collection.name)} · {n} document{'' if n == 1 else 's'}", key=f"in-{collection.id}"):
            _draw_one(service, collection, members)


def _draw_one(service: Service, collection: Collection, members: list[Document]) -> None:
    key = collection.id
    ready = [document for document in members if document.state == "ready"]
    with st.container(horizontal=True, key=f"collection-{key}"):
        if st.button("Ask", icon=":material/forum:", type="primary", disabled=not ready, key=f"ask-all-{key}"):
            ask_about(ready, collection.name)
        if st.button("Rename", icon=":material/edit:", key=f"rename-collection-{key}"):
            _rename(service, collection)
        if st.button("Remove the collection", icon=":material/delete:", key=f"remove-collection-{key}"):
            _remove(service, collection)
    for document in members:
        with st.container(horizontal=True, vertical_alignment="center", key=f"member-{key}-{document.id}"):
            st.markdown(plain(document.name))
            st.button(
                "Take out",
                key=f"take-out-{key}-{document.id}",
                type="tertiary",
                on_click=_take_out,
                args=(service, collection, document),
            )


def _take_out(service: Service, collection: Collection, document: Document) -> None:
    try:
        service.library.collections.take_out(collection.name, [document])
    except LongleafError as exc:
        notice(str(exc))


@st.dialog("Rename this collection")
def _rename(service: Service, collection: Collection) -> None:
    def rename() -> None:
        try:
            service.library.collections.rename(collection.name, st.session_state["new-collection-name"])
        except LongleafError as exc:
            notice(str(exc))

    with st.form("rename-collection-form", border=False):  # the Enter key renames too
        st.text_input("Name", collection.name, key="new-collection-name")
        if st.form_submit_button("Rename", type="primary", key="rename-collection-now", on_click=rename):
            st.rerun()


@st.dialog("Remove this collection?")
def _remove(service: Service, collection: Collection) -> None:
    st.markdown(f"{plain(collection.name)} is forgotten. Its documents and their chats stay.")

    def remove() -> None:
        try:
            service.library.collections.remove(collection.name)
        except LongleafError as exc:
            notice(str(exc))

    if st.button("Remove", type="primary", key="remove-collection-now", on_click=remove):
        st.rerun()
