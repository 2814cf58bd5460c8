"""The page beside the chat: its marks, its address, and the ways to move about in it. Real library, no browser."""

import base64
import io
import re
import struct
from dataclasses import replace

import numpy as np
import pytest
from reportlab.pdfgen import canvas

from longleaf.ingestion import Page

st = pytest.importorskip("streamlit")
from streamlit.testing.v1 import AppTest  # noqa: E402

from longleaf.app.settings import load_settings  # noqa: E402
from longleaf.app.ui import page_html as view  # noqa: E402
from longleaf.app.ui.session import service  # noqa: E402
from longleaf.app.workbench import open_library  # noqa: E402

EVIL = '<img src=x onerror="alert(1)"> costs $4'
LINES = ("The lamp burns oil.", "The keeper is Odalys Ferrante.", "The tower is tall. The oil is dear.")


def make_page(number: int = 27, label: str = "27", width: float = 612.0, height: float = 792.0) -> Page:
    return Page(number, label, "text", width, height, np.zeros((4, 4), np.float32), "text")


# --- the page as HTML


def test_a_mark_lies_over_its_box_in_per_cent_of_the_page():
    html = view.page_html(b"png", make_page(), marks=[(61.2, 79.2, 122.4, 91.2)])
    numbers = re.search(r"left:([\d.]+)%;top:([\d.]+)%;width:([\d.]+)%;height:([\d.]+)%", html)
    left, top, width, height = (float(number) / 100 for number in numbers.groups())
    m = view.MARK_MARGIN
    assert left * 612 == pytest.approx(61.2 - m, abs=0.02)
    assert top * 792 == pytest.approx(79.2 - m, abs=0.02)
    assert (left + width) * 612 == pytest.approx(122.4 + m, abs=0.02)
    assert (top + height) * 792 == pytest.approx(91.2 + m, abs=0.02)


def test_a_page_keeps_its_shape_and_carries_its_picture():
    html = view.page_html(b"\x89PNG", make_page(3, width=792.0, height=612.0), zoom=150)
    assert "width:150%;aspect-ratio:792.00 / 612.00" in html
    assert base64.b64encode(b"\x89PNG").decode() in html
    assert 'alt="Page 3"' in html
    assert "ll-mark" not in html


def test_a_page_without_a_size_has_the_shape_of_its_picture():
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 300, 400)
    assert "aspect-ratio:300.00 / 400.00" in view.page_html(png, make_page(width=0.0, height=0.0))


@pytest.mark.parametrize("zoom", [100, 150, 200, 300])
@pytest.mark.parametrize(("width", "height"), [(612, 792), (792, 612), (595, 842), (2384, 3370), (14_400, 14_400)])
def test_a_picture_is_sharp_but_never_huge(width, height, zoom):
    dpi = view.image_dpi(width, height, zoom)
    assert 20 <= dpi <= 600
    longest = max(width, height) * dpi / 72
    assert longest <= view.MAX_SIDE or dpi == 20
    sharp = width * dpi / 72 >= view.DEVICE_PIXELS * view.PANE_WIDTH * zoom / 100
    assert sharp or longest > 0.98 * view.MAX_SIDE, "only what would be huge has fewer dots"
    if zoom <= 200 and height < 850:
        assert sharp


def test_text_without_a_picture_has_its_marks_even_where_they_overlap():
    html = view.page_text_html("one two three", quote=(4, 7))
    assert "one <mark>two</mark> three" in html
    both = view.page_text_html("one two three", quote=(0, 7), hits=[(4, 7), (8, 13)], now=(8, 13))
    assert '<mark>one </mark><mark>two</mark> <mark class="ll-hit ll-now">three</mark>' in both
    assert "<mark" not in view.page_text_html("one two three", quote=(500, 600))
    assert "&lt;img" in view.page_text_html(EVIL, quote=(2, 9)).replace("</mark>", "").replace("<mark>", "")
    assert "<img" not in view.page_text_html(EVIL, quote=(0, 4))


def test_the_script_takes_no_words_of_a_document():
    assert 'data-shown="abc-1"' in view.scroll_script("abc-1")
    with pytest.raises(ValueError, match="token"):
        view.scroll_script('"]</script>')


def test_the_line_beside_the_number_tells_the_printed_one():
    assert view.page_line(make_page(), 1_040) == "of 1,040"
    assert view.page_line(make_page(28, "xii"), 40) == "of 40 (printed xii)"


# --- the pane


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGLEAF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LONGLEAF_MODELS_DIR", str(tmp_path / "no models"))
    monkeypatch.setenv("LONGLEAF_READER", "none")
    yield tmp_path / "home"
    st.cache_resource.clear()
    st.cache_data.clear()


@pytest.fixture
def document(tmp_path):
    file = io.BytesIO()
    drawing = canvas.Canvas(file, invariant=True)
    for line in LINES:
        drawing.drawString(72, 700, line)
        drawing.showPage()
    drawing.save()
    return add(tmp_path / "light $house$.pdf", file.getvalue())


def add(path, data):
    path.write_bytes(data)
    with open_library(load_settings()) as library:
        return library.add(path).document


def page_script():
    import streamlit as st

    from longleaf.app.ui import viewer
    from longleaf.app.ui.session import service

    viewer.open_from_link(service())
    shown = viewer.shown()
    sha256 = shown.sha256 if shown else st.session_state.get("sha256", "")
    places = [viewer.Place(sha256, 2, 4, 10), viewer.Place(sha256, 3, 4, 9)]
    st.button("Chip", on_click=viewer.show, args=(sha256, 2, (4, 10), places))
    if shown:
        viewer.draw(service())
    else:
        st.text("closed")


def start(**link: str) -> AppTest:
    at = AppTest.from_function(page_script, default_timeout=60)
    for name, value in link.items():
        at.query_params[name] = value
    return at.run()


def html(at: AppTest) -> str:
    assert not at.exception, [e.message for e in at.exception]
    return "\n".join(each.proto.body for each in at.get("html"))


def link(at: AppTest) -> dict[str, str]:
    return {name: value[0] if isinstance(value, list) else value for name, value in at.query_params.items()}


def button(at: AppTest, label: str):
    return next(each for each in at.button if each.label == label)


def marks(at: AppTest) -> int:
    return html(at).count('class="ll-mark"')


def find(at: AppTest, words: str) -> None:
    at.text_input[0].set_value(words).run()


def test_a_link_shows_its_page_with_its_marks_and_so_does_a_refresh(document):
    at = start(document=document.sha256[:12], page="2", quote="4-10")
    assert 'alt="Page 2"' in html(at)
    assert marks(at) == 1
    assert link(at) == {"document": document.sha256[:12], "page": "2", "quote": "4-10"}
    again = start(**link(at))
    assert marks(again) == 1
    assert at.number_input[0].value == 2


def test_moving_is_kept_in_the_address(document):
    at = start(document=document.sha256, page="2", quote="4-10")
    button(at, "Next page").click().run()
    assert link(at) == {"document": document.sha256[:12], "page": "3"}
    assert 'alt="Page 3"' in html(at)
    assert marks(at) == 0
    assert button(at, "Next page").disabled
    button(at, "Previous page").click().run()
    assert marks(at) == 1, "back on its page the quote is marked again"
    at.number_input[0].set_value(1)
    button(at, "Go to the page").click().run()
    assert link(at)["page"] == "1"
    button(at, "Back to the quote").click().run()
    assert link(at)["quote"] == "4-10"
    button(at, "Close").click().run()
    assert link(at) == {}
    assert at.text[0].value == "closed"


def test_citations_are_walked_through(document):
    at = start(document=document.sha256[:12])
    button(at, "Chip").click().run()
    assert button(at, "Citation 1 of 2").disabled, "it is the one that is shown"
    assert button(at, "Previous citation").disabled
    button(at, "Next citation").click().run()
    assert link(at) | {"page": "3", "quote": "4-9"} == link(at)
    assert marks(at) == 1
    assert button(at, "Next citation").disabled
    button(at, "Previous page").click().run()
    button(at, "Citation 2 of 2").click().run()
    assert link(at)["page"] == "3"


@pytest.mark.parametrize(
    ("given", "warning"),
    [
        ({"document": "abcdef012345"}, "not in this library"),
        ({"document": "/etc/passwd"}, "not in this library"),
        ({"document": "DOCUMENT", "page": "9"}, "has 3 pages"),
        ({"document": "DOCUMENT", "page": "two"}, "has 3 pages"),
        ({"document": "DOCUMENT", "page": "2", "quote": "x-<b>"}, "can't be read"),
    ],
)
def test_a_link_that_leads_nowhere_says_so(document, given, warning):
    at = start(**{name: value.replace("DOCUMENT", document.sha256[:12]) for name, value in given.items()})
    assert not at.exception
    assert warning in at.warning[0].value
    at.run()
    assert not at.warning, "it is said once"
    assert ("document" in link(at)) == (given["document"] == "DOCUMENT")


def test_a_link_that_several_documents_begin_like_asks_which(document, tmp_path, monkeypatch):
    add(tmp_path / "other.txt", b"The mill has six stones.")
    at = start()
    documents = service().library.documents()
    alike = [replace(each, sha256="abcdef" + each.sha256[6:]) for each in documents]
    monkeypatch.setattr(service().library, "documents", lambda: alike)
    at.query_params["document"] = "abcdef"
    at.run()
    assert "which document" in at.warning[0].value
    assert at.text[0].value == "closed"


def test_an_address_that_was_just_left_is_no_wish_to_go_back(document):
    at = start(document=document.sha256[:12], page="1")
    left = link(at)
    button(at, "Next page").click().run()
    for name, value in left.items():
        at.query_params[name] = value
    at.run()
    assert link(at)["page"] == "2"


@pytest.mark.parametrize("quote", ["5000-5010", "10-4"])
def test_a_quote_that_has_no_place_is_said_and_nothing_is_marked(document, quote):
    at = start(document=document.sha256[:12], page="2", quote=quote)
    assert marks(at) == 0
    assert "be located on this page" in html(at)


def test_the_search_marks_what_it_finds_and_moves_on(document):
    at = start(document=document.sha256[:12], page="2")
    find(at, "OIL")
    assert link(at)["page"] == "3", "the first place from the shown page on"
    assert "2 of 2" in html(at)
    assert html(at).count('class="ll-hit ll-now"') == 1
    assert button(at, "Next place found").disabled
    button(at, "Previous place found").click().run()
    assert link(at)["page"] == "1"
    button(at, "Next page").click().run()
    assert "2 places" in html(at)
    button(at, "Next place found").click().run()
    assert link(at)["page"] == "3"
    find(at, "submarine")
    assert "Not found" in html(at)
    assert "ll-hit" not in html(at).split("</style>")[1]
    find(at, "")
    assert "Next place found" not in [each.label for each in at.button]


def test_enlarging_asks_for_more_dots_and_keeps_the_marks(document, monkeypatch):
    at = start(document=document.sha256[:12], page="2", quote="4-10")
    small = width_of_picture(html(at))
    at.selectbox[0].set_value("200 %").run()
    assert "width:200%" in html(at)
    assert width_of_picture(html(at)) == pytest.approx(2 * small, rel=0.02)
    assert small >= 1_400
    assert marks(at) == 1


def width_of_picture(text: str) -> int:
    png = base64.b64decode(re.search(r"base64,([^\"]+)", text).group(1))
    return struct.unpack(">I", png[16:20])[0]


def test_a_text_is_shown_as_text(tmp_path):
    text = add(tmp_path / "mill.txt", b"The mill has <six> stones.")
    at = start(document=text.sha256[:12], page="1", quote="4-8")
    assert "The <mark>mill</mark> has &lt;six&gt; stones." in html(at)
    assert "data:image" not in html(at)
    find(at, "stones")
    assert '<mark class="ll-hit ll-now">stones</mark>' in html(at)


def test_a_document_that_is_gone_is_a_message_and_the_pane_closes(document):
    at = start(document=document.sha256[:12], page="2")
    service().remove([document])
    at.run()
    assert not at.exception
    assert len(at.error) == 1
    button(at, "Close").click().run()
    assert at.text[0].value == "closed"
