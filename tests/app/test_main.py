"""The browser front door as a person walks through it, without a browser: real library, real answers, no reader."""

import io
from functools import partial
from pathlib import Path

import pytest
from reportlab.pdfgen import canvas

st = pytest.importorskip("streamlit")
from streamlit.testing.v1 import AppTest  # noqa: E402

import longleaf.app.settings  # noqa: E402
from longleaf.app.settings import load_settings  # noqa: E402
from longleaf.app.ui_uploads import take_in  # noqa: E402
from longleaf.app.workbench import open_answerer, open_library  # noqa: E402
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


def pdf_bytes(lines=LINES) -> bytes:
    file = io.BytesIO()
    drawing = canvas.Canvas(file, invariant=True)
    for line in lines:
        drawing.drawString(72, 700, line)
        drawing.showPage()
    drawing.save()
    return file.getvalue()


def add(tmp_path, name="lighthouse.pdf", lines=LINES) -> None:
    path = tmp_path / name
    path.write_bytes(pdf_bytes(lines))
    with open_library(load_settings()) as library:
        library.add(path)


def start() -> AppTest:
    return AppTest.from_file(str(MAIN), default_timeout=60).run()


def shown(at: AppTest) -> str:
    """All that a person could read."""
    assert not at.exception, [e.message for e in at.exception]
    kinds = (at.get("html"), at.caption, at.error, at.info, at.subheader)
    return "\n".join(str(getattr(e, "value", None) or e.proto.body) for kind in kinds for e in kind)


def chips(at: AppTest) -> list:
    return [button for button in at.button if button.key and button.key.startswith("place-")]


def test_an_empty_library_says_what_to_do():
    at = start()
    assert "The library is empty" in shown(at)
    assert at.chat_input[0].disabled


def test_a_question_is_answered_and_its_citation_opens_the_page(tmp_path):
    add(tmp_path)
    at = start()
    assert [box.label for box in at.checkbox] == [r"lighthouse\.pdf · 3 pages"]
    assert at.checkbox[0].value
    at.chat_input[0].set_value("What is the keeper called?").run()
    text = shown(at)
    assert "The keeper is called Odalys Ferrante." in text
    assert "found on the page" in text
    assert "no reader is installed" in text
    assert chips(at)[0].label == r"\[1\] p. 2"
    chips(at)[0].click().run()
    text = shown(at)
    assert "Page 2 of 3, quote marked" in text
    assert "data:image/png;base64," in text
    assert text.count('class="ll-mark"') == 1
    at.button(key="page+1").click().run()
    assert "Page 3 of 3. The quote is on page 2" in shown(at)
    assert 'class="ll-mark"' not in shown(at)
    assert at.button(key="page+1").disabled
    at.button(key="page+0").click().run()
    assert "data:image/png" not in shown(at)


def test_earlier_questions_stay(tmp_path):
    add(tmp_path)
    at = start()
    at.chat_input[0].set_value("What is the keeper called?").run()
    at.chat_input[0].set_value("What does the lamp burn in a night?").run()
    text = shown(at)
    assert "What is the keeper called?" in text
    assert "What does the lamp burn in a night?" in text
    assert "burns $4 of oil and $5 of wick" in text


def test_not_found_shows_the_nearest_passages_and_opens_them(tmp_path, monkeypatch):
    monkeypatch.setattr("longleaf.retrieval.Answerer", partial(Answerer, min_confidence=1.1))
    add(tmp_path)
    at = start()
    at.chat_input[0].set_value("Which submarine cable company owns the tower?").run()
    text = shown(at)
    assert "Not found in what was read." in text
    assert "Nearest to the question" in text
    chips(at)[0].click().run()
    assert "quote marked" in shown(at)


def test_the_newest_document_is_asked_unless_told_otherwise(tmp_path):
    add(tmp_path)
    add(tmp_path, "other.pdf", ("The mill has six stones.",))
    at = start()
    assert [(box.label, box.value) for box in at.checkbox] == [
        (r"other\.pdf · 1 page", True),
        (r"lighthouse\.pdf · 3 pages", False),
    ]
    at.checkbox[0].uncheck().run()
    assert at.chat_input[0].disabled


def test_uploads_are_taken_in_and_a_bad_one_does_not_stop_the_others(home):
    at = start()
    files = [
        ("bad.pdf", b"%PDF-1.7 nothing", "application/pdf"),
        ("notes_$1_$2.md", b"# Heron\n\nIt eats newts.", "text/markdown"),
        ("tower.pdf", pdf_bytes(), "application/pdf"),
    ]
    at.file_uploader[0].set_value(files).run()
    text = shown(at)
    assert len(at.error) == 1
    assert at.error[0].value.startswith(r"bad\.pdf\: ")
    assert str(home.parent) not in text
    assert r"notes\_\$1\_\$2\.md\: 1 page in" in text
    assert r"tower\.pdf\: 3 pages in" in text
    assert all(box.value for box in at.checkbox)
    assert not at.file_uploader[0].value, "the bytes are let go"
    at.file_uploader[0].set_value([("again.pdf", pdf_bytes(), "application/pdf")]).run()
    assert r"again\.pdf\: already in the library as tower\.pdf\, 3 pages" in shown(at)
    at.chat_input[0].set_value("What is the keeper called?").run()
    assert "Odalys Ferrante" in shown(at)


def test_a_text_document_shows_its_text_with_the_quote_marked(tmp_path):
    path = tmp_path / "notes.md"
    path.write_text("# Heron\n\nIt eats <b>newts</b> and $5 frogs.\n\nIt sleeps.\n")
    with open_library(load_settings()) as library:
        library.add(path)
    at = start()
    at.chat_input[0].set_value("What newts and frogs does it eat?").run()
    chips(at)[0].click().run()
    text = shown(at)
    assert "<mark>It eats &lt;b&gt;newts&lt;/b&gt; and $5 frogs.</mark>" in text
    assert "<b>newts" not in text


def test_a_library_that_cannot_be_opened_is_one_message(tmp_path, monkeypatch):
    blocked = tmp_path / "a file"
    blocked.write_text("")
    monkeypatch.setenv("LONGLEAF_HOME", str(blocked))
    at = start()
    assert not at.exception
    assert len(at.error) == 1


def test_a_document_removed_meanwhile_is_a_message(tmp_path):
    add(tmp_path)
    at = start()
    at.chat_input[0].set_value("What is the keeper called?").run()
    chips(at)[0].click().run()
    with open_library(load_settings()) as library:
        library.remove(library.find("lighthouse.pdf"))
    at.run()
    assert not at.exception
    assert "no such document" in at.error[0].value


def test_an_unforeseen_error_is_kept_with_the_question_and_not_asked_again(tmp_path, monkeypatch, caplog):
    add(tmp_path)
    asked = []

    def broken(self, question, *args, **kwargs):
        asked.append(question)
        raise ZeroDivisionError

    monkeypatch.setattr("longleaf.retrieval.Answerer.ask", broken)
    at = start()
    at.chat_input[0].set_value("Why?").run()
    at.run()
    assert not at.exception
    assert "did not foresee" in at.error[0].value
    assert asked == ["Why?"]


@pytest.mark.parametrize("name", ["../../etc/passwd.md", "a/b\\c.md", "x" * 300 + ".md", "..", "a\0b.md", ""])
def test_a_name_from_a_browser_stays_a_name(name):
    settings = load_settings()
    with open_library(settings) as library:
        answerer = open_answerer(settings, library, with_reader=False)
        outcome = take_in(library, answerer, name, io.BytesIO(b"Some words."), progress=lambda *_: None)
        assert outcome.document, outcome.text
        assert "/" not in outcome.document.name
        assert len(outcome.document.name) <= 255
