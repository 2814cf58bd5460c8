"""The page "Ask" as a person walks through it, without a browser: real library, real answers, no reader."""

import io
from functools import partial
from pathlib import Path

import pytest
from reportlab.pdfgen import canvas

st = pytest.importorskip("streamlit")
from streamlit.testing.v1 import AppTest  # noqa: E402

import longleaf.app.settings  # noqa: E402
from longleaf.app.settings import load_settings  # noqa: E402
from longleaf.app.ui import uploads  # noqa: E402
from longleaf.app.ui.session import service  # noqa: E402
from longleaf.app.workbench import open_library  # noqa: E402
from longleaf.retrieval import Answerer  # noqa: E402

MAIN = Path(longleaf.app.settings.__file__).with_name("main.py")
LINES = (
    "The lamp burns $4 of oil and $5 of wick a night.",
    "The keeper is called Odalys Ferrante.",
    "The tower is tall.",
)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGLEAF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LONGLEAF_MODELS_DIR", str(tmp_path / "no models"))
    monkeypatch.setenv("LONGLEAF_READER", "none")
    yield tmp_path / "home"
    st.cache_resource.clear()
    st.cache_data.clear()


def add(tmp_path, name="lighthouse.pdf", lines=LINES):
    file = io.BytesIO()
    drawing = canvas.Canvas(file, invariant=True)
    for line in lines:
        drawing.drawString(72, 700, line)
        drawing.showPage()
    drawing.save()
    path = tmp_path / name
    path.write_bytes(file.getvalue())
    with open_library(load_settings()) as library:
        return library.add(path).document


def start(**link: str) -> AppTest:
    at = AppTest.from_file(str(MAIN), default_timeout=60)
    for name, value in link.items():
        at.query_params[name] = value
    return at.run()


def ask(at: AppTest, question: str) -> None:
    """Asks, and waits for what comes of it."""
    at.chat_input[0].set_value(question).run()
    for job in service().questions.jobs():
        assert job.wait(60)
    at.run()


def shown(at: AppTest) -> str:
    """All that a person could read."""
    assert not at.exception, [e.message for e in at.exception]
    kinds = (at.get("html"), at.title, at.subheader, at.markdown, at.caption, at.error, at.warning, at.info, at.toast)
    return "\n".join(str(getattr(e, "value", None) or e.proto.body) for kind in kinds for e in kind)


def button(at: AppTest, label: str):
    return next(each for each in at.button if each.label == label)


def chips(at: AppTest) -> list:
    return [each for each in at.button if each.key and each.key.startswith("place-")]


def test_an_empty_library_says_what_to_do_and_has_nothing_else():
    at = start()
    text = shown(at)
    assert "Drop in a report" in text
    assert len(at.file_uploader) == 1
    assert not at.chat_input


def test_a_question_is_answered_and_its_citation_opens_the_page(tmp_path):
    add(tmp_path)
    at = start()
    ask(at, "What is the keeper called?")
    text = shown(at)
    assert "The keeper is called Odalys Ferrante." in text
    assert "found on the page" in text
    assert "Retrieval: 1 passage of 1 document, because no reader is installed" in text
    assert chips(at)[0].label == r"\[1\] p. 2"
    chips(at)[0].click().run()
    assert shown(at).count('class="ll-mark') == 1
    assert at.query_params["page"] == ["2"] or at.query_params["page"] == "2"


def test_a_chat_is_there_again_for_another_session_and_by_its_link(tmp_path):
    add(tmp_path)
    at = start()
    ask(at, "What is the keeper called?")
    ask(at, "What does the lamp burn in a night?")
    (chat,) = service().chats.all()
    assert chat.n_turns == 2
    again = start(chat=str(chat.id))
    text = shown(again)
    assert "What is the keeper called?" in text
    assert "burns $4 of oil and $5 of wick" in text
    listed = start()
    button(listed, "What is the keeper called\\?").click().run()
    assert "Odalys Ferrante" in shown(listed)


@pytest.mark.parametrize("chat", ["7", "nonsense", "-1", "99999999999999999999"])
def test_a_link_to_no_chat_says_so_and_begins_a_new_one(tmp_path, chat):
    add(tmp_path)
    at = start(chat=chat)
    assert "chat" in at.warning[0].value
    assert at.multiselect[0].value


def test_a_question_of_blanks_makes_no_chat(tmp_path):
    add(tmp_path)
    at = start()
    at.chat_input[0].set_value("   ").run()
    assert service().chats.all() == []


def test_settings_that_cannot_be_read_let_nobody_in(tmp_path, monkeypatch):
    add(tmp_path)
    at = start()
    assert at.chat_input
    monkeypatch.setenv("LONGLEAF_TOP_K", "0")
    at.run()
    assert "LONGLEAF\\_TOP\\_K" in at.error[0].value
    assert not at.chat_input
    assert not at.file_uploader


def test_a_question_that_another_process_answers_can_be_stopped(tmp_path):
    document = add(tmp_path)
    chats = service().chats
    chat = chats.make([document])
    turn = chats.ask(chat, "Why?")
    at = start(chat=str(chat.id))
    assert "Another process answers" in shown(at)
    button(at, "Stop").click().run()
    assert chats.turn(turn.id).state == "stopped"
    assert "Stopped before it was answered" in shown(at.run())


def test_a_file_that_was_just_added_is_asked_and_none_from_before_this_session(tmp_path):
    def upload(name: str):
        path = tmp_path / name
        path.write_text(f"This is {name}.")
        with path.open("rb") as file:
            job = service().add_file(name, file, owner="test session id")
        assert job.wait(60)
        return job.view().result.document.sha256

    upload("earlier.txt"), upload("later.txt")
    chosen = upload("chosen.txt")
    at = start()
    assert at.multiselect[0].value == [chosen]
    added = upload("added.txt")
    at.run()
    assert at.multiselect[0].value == [added]


@pytest.mark.parametrize("first", [True, False])
def test_a_file_may_come_in_while_the_page_is_drawn(first, tmp_path, monkeypatch):
    """In each moment in which the page looks: it is told of, and chosen, together."""
    path = tmp_path / "late.txt"
    path.write_text("This came in late.")
    if not first:
        add(tmp_path)
    at = start()
    desk = service()
    to_come = [path]

    def then_it_is_in(look):
        def looked(*args):
            found = look(*args)
            if to_come:
                with to_come.pop().open("rb") as file:
                    assert desk.add_file(path.name, file, owner="test session id").wait(60)
            return found

        return looked

    for number, (owner, name) in enumerate([(desk.library, "documents"), (uploads, "_hear_of_finished")], start=1):
        path.write_text(f"{path.read_text()} Here is more.")
        to_come[:] = [path]
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, then_it_is_in(getattr(owner, name)))
            at.run()
        assert not to_come
        assert shown(at).count(r"late\.txt\: 1 page in") == number
        newest = max(desk.library.documents(), key=lambda document: document.id)
        assert at.multiselect[0].value == [newest.sha256]


def test_a_chat_is_of_a_collection_only_where_it_asks_just_what_that_holds(tmp_path):
    first = add(tmp_path)
    second = add(tmp_path, "other.pdf", ("The mill has six stones.",))
    service().library.collections.put("Filings", [first, second])
    at = start()
    button(at, "Filings").click().run()
    ask(at, "How many stones has the mill?")
    assert service().chats.all()[0].collection == "Filings"
    button(at, "New chat").click().run()
    at.multiselect[0].set_value([first.sha256]).run()
    ask(at, "What is the keeper called?")
    assert service().chats.all()[0].collection is None


def test_not_found_says_what_was_read_and_opens_the_nearest_passages(tmp_path, monkeypatch):
    monkeypatch.setattr("longleaf.retrieval.Answerer", partial(Answerer, min_confidence=1.1))
    add(tmp_path)
    at = start()
    ask(at, "Which submarine cable company owns the tower?")
    text = shown(at)
    assert "Not found in what was read." in text
    assert "3 pages searched" in text
    assert "Nearest to the question" in text
    chips(at)[0].click().run()
    assert "ll-mark" in shown(at)


def test_the_newest_document_is_asked_unless_told_otherwise(tmp_path):
    first = add(tmp_path)
    second = add(tmp_path, "other.pdf", ("The mill has six stones.",))
    at = start()
    assert at.multiselect[0].value == [second.sha256]
    at.multiselect[0].set_value([]).run()
    assert at.chat_input[0].disabled
    at.multiselect[0].set_value([first.sha256, second.sha256]).run()
    ask(at, "How many stones has the mill?")
    assert "The mill has six stones." in shown(at)
    assert r"other\.pdf" in chips(at)[0].label, "with several documents each citation names its own"


def test_the_document_of_a_link_is_shown_and_asked(tmp_path):
    first = add(tmp_path)
    add(tmp_path, "other.pdf", ("The mill has six stones.",))
    at = start(document=first.sha256[:12], page="3")
    assert at.multiselect[0].value == [first.sha256]
    assert "data:image/png;base64," in shown(at)


def test_ask_again_edit_and_branch(tmp_path):
    add(tmp_path)
    at = start()
    ask(at, "What is the keeper called?")
    button(at, "Edit").click().run()
    at.text_area[0].set_value("How tall is the tower?")
    button(at, "Ask").click().run()
    for job in service().questions.jobs():
        assert job.wait(60)
    at.run()
    (chat,) = service().chats.all()
    assert [turn.question for turn in service().chats.turns(chat)] == ["How tall is the tower?"]
    assert "The tower is tall." in shown(at)
    button(at, "Ask again").click().run()
    for job in service().questions.jobs():
        assert job.wait(60)
    at.run()
    assert len(service().questions.jobs()) == 3
    button(at, "Branch").click().run()
    assert [each.parent_chat for each in service().chats.all()] == [chat.id, None]
    ask(at, "What does the lamp burn?")
    counts = {chat.n_turns for chat in service().chats.all()}
    assert counts == {1, 2}, "the chat it comes from is as it was"


def test_a_chat_is_renamed_and_deleted(tmp_path):
    add(tmp_path)
    at = start()
    ask(at, "What is the keeper called?")
    button(at, "Rename").click().run()
    at.text_input(key="new-chat-title").set_value("Keepers of *lights*")
    at.button(key="rename-chat-now").click().run()
    assert service().chats.all()[0].title == "Keepers of *lights*"
    at.run()
    assert r"Keepers of \*lights\*" in shown(at)
    button(at, "Delete").click().run()
    assert "1 question with what came of it" in shown(at)
    at.button(key="delete-chat-now").click().run()
    assert service().chats.all() == []


def test_a_library_that_cannot_be_opened_is_one_message(tmp_path, monkeypatch):
    blocked = tmp_path / "a file"
    blocked.write_text("")
    monkeypatch.setenv("LONGLEAF_HOME", str(blocked))
    at = start()
    assert not at.exception
    assert len(at.error) == 1


def test_a_document_removed_meanwhile_is_a_message_and_the_chat_stays(tmp_path):
    document = add(tmp_path)
    add(tmp_path, "other.pdf", ("The mill has six stones.",))
    at = start()
    at.multiselect[0].set_value([d.sha256 for d in service().library.documents()]).run()
    ask(at, "What is the keeper called?")
    chips(at)[0].click().run()
    service().remove([document])
    at.run()
    text = shown(at)
    assert "A document of this chat was removed" in text
    assert "Odalys" not in text


def test_an_unforeseen_error_is_kept_with_the_question_and_not_asked_again(tmp_path, monkeypatch, caplog):
    add(tmp_path)
    asked = []

    def broken(self, question, *args, **kwargs):
        asked.append(question)
        raise ZeroDivisionError

    monkeypatch.setattr("longleaf.retrieval.Answerer.stream", broken)
    at = start()
    ask(at, "Why?")
    at.run()
    assert not at.exception
    assert "did not foresee" in at.error[0].value
    assert asked == ["Why?"]
    assert "ZeroDivisionError" in caplog.text
