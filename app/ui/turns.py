"""Draws the questions of a chat with what came of them, and what can be done with each."""

from typing import cast

import streamlit as st

from longleaf.app import answer_view
from longleaf.app import page_view as view
from longleaf.app.chats import Chat, KeptTurn, answer_of
from longleaf.app.service import Service
from longleaf.app.ui.answers import draw_answer
from longleaf.app.ui.jobs import REFRESH_S, draw_progress
from longleaf.app.ui.session import errors_shown, notice, owner
from longleaf.errors import LongleafError
from longleaf.retrieval import Answer
from longleaf.retrieval.route import RouteName

__all__ = ["draw_turns"]


def draw_turns(service: Service, chat: Chat) -> None:
    """Draws a chat from its first question to its last."""
    turns = service.chats.turns(chat)
    for turn in turns:
        with st.chat_message("user", avatar=":material/person:"):
            st.html(view.text_html(turn.question))
        with st.chat_message("assistant", avatar=":material/forest:"), errors_shown():
            if turn.is_open:
                _draw_open(service, turn.id)
            else:
                _draw_finished(service, chat, turn, is_last=turn is turns[-1])


@st.fragment(run_every=REFRESH_S)
def _draw_open(service: Service, turn_id: int) -> None:
    """A question that waits or is being answered; draws itself again until there is something to keep."""
    try:
        turn = service.chats.turn(turn_id)
        job = service.job_of(turn)
        is_over = job is not None and job.wait(0)
        turn = service.chats.turn(turn_id) if is_over else turn  # what came of a job is kept before it is over
    except LongleafError:  # asked anew, or removed, in another window
        st.rerun(scope="app")
    if not turn.is_open:
        st.rerun(scope="app")
    if job and not is_over:
        draft = draw_progress(job, key=f"turn-{turn.id}", on_stop=lambda: service.stop(turn)).draft
    else:
        # Over and still open: the library can't be written.
        st.caption("What came of this question could not be kept." if job else "Another process answers this question.")
        st.button(
            "Stop", key=f"stop-turn-{turn.id}", on_click=service.stop, args=(turn,), icon=":material/stop_circle:"
        )
        draft = turn.draft
    if draft:
        st.html(answer_view.draft_html(draft))


def _draw_finished(service: Service, chat: Chat, turn: KeptTurn, *, is_last: bool) -> None:
    if turn.note:
        st.caption(f":material/info: {view.plain(turn.note)}")
    answer = answer_of(turn)
    if turn.state == "failed":
        st.error(view.plain(turn.error), icon=":material/error:")
    if answer is not None:
        draw_answer(answer, key=str(turn.id), n_documents=len(chat.documents))
    elif turn.state == "stopped":
        if turn.draft:
            st.html(answer_view.draft_html(turn.draft))
        st.html(view.text_html("Stopped before it was answered.", small=True))
    _draw_actions(service, chat, turn, answer, is_last=is_last)


def _draw_actions(service: Service, chat: Chat, turn: KeptTurn, answer: Answer | None, *, is_last: bool) -> None:
    """What can be done with a turn; asking again only with the last, on which nothing rests yet."""

    def action(label: str, icon: str, meaning: str, on_click: object, *args: object) -> None:
        st.button(
            label,
            key=f"{icon}-{turn.id}",
            icon=f":material/{icon}:",
            help=meaning,
            type="tertiary",
            on_click=on_click,  # type: ignore[arg-type]
            args=args,
        )

    with st.container(horizontal=True, gap="small", key=f"actions-{turn.id}"):
        if answer is not None and (answer.found or answer.reply):
            st.html(answer_view.copy_html(answer_view.answer_text(answer)), width="content")
        if is_last:
            action("Ask again", "refresh", "Forget this answer and ask once more", _ask_again, service, chat, "auto")
            action("Edit", "edit", "Ask something else in place of this question", _edit, turn.id)
            if other := answer and _other_route(answer):
                label, meaning = _SWITCH[other]
                action(label, "alt_route", meaning, _ask_again, service, chat, other)
        action(
            "Branch", "account_tree", "Begin another chat with the questions up to here", _branch, service, chat, turn
        )
    if is_last and st.session_state.get("editing") == turn.id:
        _draw_editor(service, chat, turn)


_SWITCH: dict[RouteName, tuple[str, str]] = {
    "whole-document": ("Read it whole", "Ask again, with the whole document read instead of passages of it"),
    "retrieval": ("Search instead", "Ask again, from passages that are searched for instead of the whole document"),
}


def _other_route(answer: Answer) -> RouteName | None:
    """The way that was not taken, where it is possible."""
    if answer.route.name == "whole-document":
        return "retrieval"
    tokens, budget = answer.receipt.tokens_document, answer.receipt.tokens_budget
    return "whole-document" if tokens is not None and budget is not None and tokens <= budget else None


def _draw_editor(service: Service, chat: Chat, turn: KeptTurn) -> None:
    with st.form(f"edit-{turn.id}", border=False):
        text = st.text_area("Ask instead", turn.question, max_chars=2_000, height="content", key=f"instead-{turn.id}")
        with st.container(horizontal=True):
            asked = st.form_submit_button("Ask", type="primary")
            left = st.form_submit_button("Leave it")
    if asked:
        service.replace_last(chat, text, owner=owner())
    if asked or left:
        del st.session_state["editing"]
        st.rerun()


def _edit(turn_id: int) -> None:
    st.session_state["editing"] = turn_id


def _ask_again(service: Service, chat: Chat, route: str) -> None:
    try:
        service.regenerate(chat, owner=owner(), route=cast(RouteName, route))
    except LongleafError as exc:
        notice(str(exc))


def _branch(service: Service, chat: Chat, turn: KeptTurn) -> None:
    from longleaf.app.ui.chat_list import open_chat

    try:
        open_chat(service.chats.branch(chat, turn).id)
    except LongleafError as exc:
        notice(str(exc))
    else:
        notice("This is the branch; the chat that it comes from is as it was.")
