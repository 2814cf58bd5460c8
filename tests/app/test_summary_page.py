"""The page "Summaries" as a person walks through it, without a browser: real library, sentences as they stand."""

from pathlib import Path

import pytest

st = pytest.importorskip("streamlit")
from markdown_it import MarkdownIt  # noqa: E402
from streamlit.testing.v1 import AppTest  # noqa: E402

import longleaf.app.settings  # noqa: E402
from longleaf.app.settings import load_settings  # noqa: E402
from longleaf.app.summary_export import to_markdown  # noqa: E402
from longleaf.app.ui.session import service  # noqa: E402
from longleaf.app.workbench import open_library  # noqa: E402
from longleaf.errors import ReaderError  # noqa: E402

MAIN = Path(longleaf.app.settings.__file__).with_name("main.py")
TEXT = """The harbour board owns four cranes, and the largest crane lifts 120 tonnes.

The quay was rebuilt in 1998 after the storm, at a cost of twelve million crowns.

Berth fees are <b>the main</b> source of income of the harbour board in every year.
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGLEAF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LONGLEAF_MODELS_DIR", str(tmp_path / "no models"))
    monkeypatch.setenv("LONGLEAF_READER", "none")
    yield tmp_path / "home"
    st.cache_resource.clear()


def add(tmp_path, name: str = "harbour.txt", text: str = TEXT):
    (tmp_path / name).write_text(text)
    with open_library(load_settings()) as library:
        return library.add(tmp_path / name).document


def start(**link: str) -> AppTest:
    at = AppTest.from_file(str(MAIN), default_timeout=60).run().switch_page("screens/summary.py")
    for name, value in link.items():
        at.query_params[name] = value
    return at.run()


def summarise(at: AppTest) -> None:
    at.button(key="summarise").click().run()
    for job in service().questions.jobs():
        assert job.wait(60)
    at.run()


def shown(at: AppTest) -> str:
    assert not at.exception, [e.message for e in at.exception]
    kinds = (at.get("html"), at.title, at.subheader, at.markdown, at.caption, at.error, at.warning, at.info)
    return "\n".join(str(getattr(e, "value", None) or e.proto.body) for kind in kinds for e in kind)


def test_an_empty_library_leads_to_where_documents_are_added():
    at = start()
    assert "No document to summarise yet" in shown(at)


def test_one_click_gives_a_summary_with_places_that_is_there_again(tmp_path):
    document = add(tmp_path)
    at = start()
    assert "sentences of the document, as they stand" in shown(at)
    summarise(at)
    text = shown(at)
    assert "120 tonnes" in text
    assert "&lt;b&gt;the main&lt;/b&gt;" in text
    chips = [b for b in at.button if b.key and b.key.startswith("place-")]
    assert chips[0].label.startswith(r"\[1\] p. 1")
    again = start(document=document.sha256[:12])
    assert "120 tonnes" in shown(again)
    assert again.button(key="summarise").label == "Make it again"
    chips[0].click().run()
    assert "<mark" in shown(at)


def test_other_options_are_another_summary_and_both_are_kept(tmp_path):
    add(tmp_path)
    at = start()
    summarise(at)
    at.segmented_control(key="summary-form").set_value("bullets").run()
    assert at.button(key="summarise").label == "Summarise"
    assert any(e.label.startswith(r"medium\, by none") for e in at.expander)
    summarise(at)
    assert '<ul class="ll-answer">' in shown(at)


def test_the_document_of_a_link_is_chosen_and_a_wrong_one_is_said(tmp_path):
    first = add(tmp_path)
    add(tmp_path, "mill.txt", "The mill has six stones and grinds rye and oats for the whole valley.\n")
    assert start(document=first.sha256[:12]).selectbox[0].value == first.sha256
    wrong = start(document="0123456789ab")
    assert "not in the library" in shown(wrong)


def test_a_failure_is_a_message_and_can_be_tried_again(tmp_path, monkeypatch):
    add(tmp_path)

    def fail(*args, **kwargs):
        raise ReaderError("the reader is on strike: wait")

    at = start()
    monkeypatch.setattr("longleaf.retrieval.summary.Summarizer.summarize", fail)
    summarise(at)
    assert "on strike" in at.error[0].value
    assert not at.button(key="summarise").disabled


def test_the_file_holds_the_words_as_words(tmp_path):
    document = add(tmp_path)
    at = start()
    summarise(at)
    (made,) = service().summarizer.all_kept(document)
    tokens = MarkdownIt("commonmark", {"html": True}).parse(to_markdown(made))
    kinds = {token.type for token in tokens} | {c.type for token in tokens for c in token.children or ()}
    assert "html_inline" not in kinds
    assert "html_block" not in kinds
    words = " ".join(c.content for token in tokens for c in token.children or () if c.type == "text")
    assert "120 tonnes" in words
    assert "p. 1" in words
