"""The page "Library" as a person walks through it, without a browser: real library, no reader."""

import io
from pathlib import Path

import pytest
from reportlab.pdfgen import canvas

st = pytest.importorskip("streamlit")
from streamlit.testing.v1 import AppTest  # noqa: E402

import longleaf.app.settings  # noqa: E402
from longleaf.app.catalog import what_goes  # noqa: E402
from longleaf.app.settings import load_settings  # noqa: E402
from longleaf.app.ui.session import service  # noqa: E402
from longleaf.app.workbench import open_library  # noqa: E402

MAIN = Path(longleaf.app.settings.__file__).with_name("main.py")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGLEAF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LONGLEAF_MODELS_DIR", str(tmp_path / "no models"))
    monkeypatch.setenv("LONGLEAF_READER", "none")
    yield tmp_path / "home"
    st.cache_resource.clear()


def pdf_bytes(*lines: str) -> bytes:
    file = io.BytesIO()
    drawing = canvas.Canvas(file, invariant=True)
    for line in lines:
        drawing.drawString(72, 700, line)
        drawing.showPage()
    drawing.save()
    return file.getvalue()


def add(tmp_path, *names: str):
    with open_library(load_settings()) as library:
        for name in names:
            (tmp_path / name).write_bytes(pdf_bytes(f"This is {name}.", "And a second page."))
            library.add(tmp_path / name)
        return library.documents()


def start() -> AppTest:
    return AppTest.from_file(str(MAIN), default_timeout=60).run().switch_page("screens/library.py").run()


def shown(at: AppTest) -> str:
    assert not at.exception, [e.message for e in at.exception]
    kinds = (at.title, at.subheader, at.markdown, at.caption, at.error, at.warning, at.info, at.toast)
    return "\n".join(str(e.value) for kind in kinds for e in kind)


def choose(at: AppTest, *documents) -> None:
    at.multiselect[0].set_value([document.sha256 for document in documents]).run()


def wait(at: AppTest) -> None:
    for job in service().work.jobs():
        assert job.wait(60)
    at.run()


def test_an_empty_library_says_what_to_do():
    at = start()
    assert "No documents yet. Drop one in" in shown(at)
    assert len(at.file_uploader) == 1
    assert not at.dataframe


def test_the_only_document_is_chosen_and_asked(tmp_path):
    (document,) = add(tmp_path, "one.pdf")
    at = start()
    table = at.dataframe[0].value
    assert list(table["name"]) == ["one.pdf"]
    assert list(table["pages"]) == [2]
    at.button(key="ask-chosen").click().run()
    assert at.multiselect(key="ask_chosen").value == [document.sha256]
    assert not at.chat_input[0].disabled


def test_many_are_found_by_words_and_asked_together(tmp_path):
    documents = add(tmp_path, "report 2023.pdf", "report 2024.pdf", "letter.pdf")
    at = start()
    assert list(at.dataframe[0].value["name"]) == ["letter.pdf", "report 2024.pdf", "report 2023.pdf"]
    assert at.button(key="ask-chosen").disabled
    at.text_input(key="find-documents").set_value("2024 REPORT").run()
    assert list(at.dataframe[0].value["name"]) == ["report 2024.pdf"]
    at.text_input(key="find-documents").set_value("nothing like it").run()
    assert "No name or title" in shown(at)
    at.text_input(key="find-documents").set_value("").run()
    choose(at, *documents[:2])
    assert at.button(key="ask-chosen").label == "Ask 2 together"
    at.button(key="ask-chosen").click().run()
    assert set(at.multiselect(key="ask_chosen").value) == {documents[0].sha256, documents[1].sha256}


def test_renaming_keeps_the_document_and_is_said(tmp_path):
    (document,) = add(tmp_path, "one.pdf")
    at = start()
    at.button(key="rename-chosen").click().run()
    at.text_input(key="new-document-name").set_value("Annual *report*")
    at.button(key="rename-document-now").click().run()
    assert service().library.find(document.sha256).name == "Annual *report*"
    assert "Renamed" in shown(at)


def test_removing_says_what_goes_and_leaves_the_others(tmp_path):
    first, second = add(tmp_path, "one.pdf", "two.pdf")
    service().chats.make([first])
    at = start()
    choose(at, first)
    at.button(key="remove-chosen").click().run()
    text = shown(at)
    assert "2 pages with their passages" in text
    assert "1 chat says of it" in text
    at.button(key="remove-documents-now").click().run()
    assert [document.sha256 for document in service().library.documents()] == [second.sha256]
    assert service().chats.all() == []


def test_nothing_is_chosen_in_place_of_what_was_removed_or_is_not_found(tmp_path):
    documents = add(tmp_path, "one.pdf", "two.pdf", "three.pdf")
    at = start()
    table = at.dataframe[0].proto.id
    choose(at, documents[0])
    assert at.dataframe[0].proto.id == table
    at.text_input(key="find-documents").set_value("t").run()
    assert at.dataframe[0].proto.id != table, "Streamlit keeps which rows are chosen for as long as this is the same"
    assert at.button(key="remove-chosen").disabled
    at.text_input(key="find-documents").set_value("").run()
    choose(at, documents[0])
    at.button(key="remove-chosen").click().run()
    at.button(key="remove-documents-now").click().run()
    assert list(at.dataframe[0].value["name"]) == ["three.pdf", "two.pdf"]
    assert at.dataframe[0].proto.id != table
    assert at.button(key="remove-chosen").disabled


def test_what_goes_is_said_of_one_document_and_of_several(tmp_path):
    first, second = add(tmp_path, "one.pdf", "two.pdf")
    service().chats.make([first, second])
    service().chats.make([second])
    one, both = what_goes(service(), [first]), what_goes(service(), [first, second])
    assert "1 chat says of it," in one
    assert "stored copy" in one
    assert "2 chats say of them," in both
    assert "stored copies" in both


def test_a_message_that_was_put_away_does_not_come_back(home):
    at = start()
    at.file_uploader[0].set_value([("bad.pdf", b"%PDF-1.7 nothing", "application/pdf")]).run()
    wait(at)
    assert r"bad\.pdf" in shown(at)
    next(each for each in at.button if each.label == "✕").click().run()
    assert r"bad\.pdf" not in shown(at)
    assert r"bad\.pdf" not in shown(start())


def test_a_document_removed_elsewhere_meanwhile_is_a_message(tmp_path):
    first, _ = add(tmp_path, "one.pdf", "two.pdf")
    at = start()
    choose(at, first)
    at.button(key="rename-chosen").click().run()
    at.text_input(key="new-document-name").set_value("Another")
    service().remove([first])
    at.button(key="rename-document-now").click().run()
    assert "no longer in the library" in shown(at)


def test_a_collection_is_made_asked_changed_and_forgotten(tmp_path):
    first, second = add(tmp_path, "one.pdf", "two.pdf")
    at = start()
    assert "None yet" in shown(at)
    service().library.collections.put("Filings", [first, second])
    at.run()
    (collection,) = service().library.collections.all()
    at.button(key=f"take-out-{collection.id}-{first.id}").click().run()
    assert service().library.collections.find("Filings").document_ids == (second.id,)
    at.button(key=f"rename-collection-{collection.id}").click().run()
    at.text_input(key="new-collection-name").set_value("Papers")
    at.button(key="rename-collection-now").click().run()
    at.button(key=f"ask-all-{collection.id}").click().run()
    assert at.multiselect(key="ask_chosen").value == [second.sha256]
    at.switch_page("screens/library.py").run()
    at.button(key=f"remove-collection-{collection.id}").click().run()
    at.button(key="remove-collection-now").click().run()
    assert service().library.collections.all() == []
    assert len(service().library.documents()) == 2


def test_uploads_are_taken_in_and_a_bad_one_does_not_stop_the_others(home):
    at = start()
    files = [
        ("bad.pdf", b"%PDF-1.7 nothing", "application/pdf"),
        ("notes_$1_$2.md", b"# Heron\n\nIt eats newts.", "text/markdown"),
        ("tower.pdf", pdf_bytes("The tower is tall."), "application/pdf"),
    ]
    at.file_uploader[0].set_value(files).run()
    wait(at)
    text = shown(at)
    assert r"bad\.pdf\: " in text
    assert str(home.parent) not in text
    assert r"notes\_\$1\_\$2\.md\: 1 page in" in text
    assert r"tower\.pdf\: 1 page in" in text
    assert not at.file_uploader[0].value, "the bytes are let go"
    assert not list((home / "tmp").rglob("*.pdf")), "and so are the files on their way"
    at.file_uploader[0].set_value([("again.pdf", pdf_bytes("The tower is tall."), "application/pdf")]).run()
    wait(at)
    assert r"again\.pdf\: already in the library as tower\.pdf\, 1 page" in shown(at)


def test_a_file_above_the_limit_is_refused_in_our_words(monkeypatch):
    monkeypatch.setenv("LONGLEAF_MAX_UPLOAD_MB", "1")
    at = start()
    at.file_uploader[0].set_value([("huge.txt", b"word " * 300_000, "text/plain")]).run()
    assert r"this server takes files up to 1 MB" in at.error[0].value
    assert service().library.documents() == []


def test_an_encrypted_file_is_opened_with_the_password_given(tmp_path):
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf_bytes("The vault is below."))))
    writer.encrypt("sesame", algorithm="AES-256")
    locked = io.BytesIO()
    writer.write(locked)
    at = start()
    at.file_uploader[0].set_value([("vault.pdf", locked.getvalue(), "application/pdf")]).run()
    wait(at)
    assert "password" in shown(at)
    at.text_input(key=next(t.key for t in at.text_input if t.key.startswith("password-"))).set_value("sesame").run()
    at.file_uploader[0].set_value([("vault.pdf", locked.getvalue(), "application/pdf")]).run()
    wait(at)
    assert r"vault\.pdf\: 1 page in" in shown(at)
