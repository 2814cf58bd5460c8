import pytest

from longleaf.errors import EmptyDocumentError, UnsupportedFileError
from longleaf.ingestion.document import OutlineEntry
from longleaf.ingestion.text_parser import parse_text


def parse(data, tmp_path, *, markdown=False):
    return parse_text(data if isinstance(data, bytes) else data.encode(), tmp_path / "a.txt", markdown=markdown)


def test_pages_end_at_paragraphs_and_nothing_is_lost(tmp_path):
    paragraphs = [f"Paragraph {i}. " + "words and words " * 40 for i in range(30)]
    parsed = parse("\n\n".join(p.strip() for p in paragraphs), tmp_path)
    assert 5 < len(parsed.pages) < 12
    assert all(1_500 <= len(page) <= 4_500 for page in parsed.pages[:-1])
    assert all(page.startswith("Paragraph ") for page in parsed.pages)
    assert "\n\n".join(parsed.pages).split() == " ".join(paragraphs).split()


def test_one_endless_line_is_cut_too(tmp_path):
    parsed = parse("x" * 10_000, tmp_path)
    assert [len(page) for page in parsed.pages] == [3_000, 3_000, 3_000, 1_000]


def test_a_form_feed_ends_a_page(tmp_path):
    assert parse("first\n\fsecond\n\f", tmp_path).pages == ["first", "second"]
    assert parse("first\n\f\fthird", tmp_path).pages == ["first", "", "third"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings(tmp_path, encoding):
    parsed = parse("Grüße, 世界\r\nzwei".encode(encoding), tmp_path)
    assert parsed.pages == ["Grüße, 世界\nzwei"]
    assert parsed.warnings == []


def test_windows_text_is_taken_with_a_warning(tmp_path):
    parsed = parse("Grüße – “so”".encode("cp1252"), tmp_path)
    assert parsed.pages == ["Grüße – “so”"]
    assert "Windows-1252" in parsed.warnings[0]


def test_binary_is_refused(tmp_path):
    with pytest.raises(UnsupportedFileError, match=r"a\.txt: it is a binary file"):
        parse(bytes(range(256)) * 20, tmp_path)


def test_blank_text_is_empty(tmp_path):
    with pytest.raises(EmptyDocumentError):
        parse(" \n\t\n", tmp_path)


def test_markdown_headings_become_the_outline(tmp_path):
    text = """# The *Report*

Intro

```
# no heading
```

## [Risks](http://x) ##

Under
=====

- item
---
"""
    parsed = parse(text, tmp_path, markdown=True)
    assert parsed.outline == [
        OutlineEntry(1, "The Report", 1),
        OutlineEntry(2, "Risks", 1),
        OutlineEntry(1, "Under", 1),
    ]
    assert parse(text, tmp_path).outline == []
