from pypdf import PdfReader, PdfWriter
from pypdf.constants import PageLabelStyle

from longleaf.ingestion.document import OutlineEntry
from longleaf.ingestion.pdf_structure import read_structure


def with_structure(path, target):
    writer = PdfWriter(clone_from=PdfReader(path))
    writer.set_page_label(0, 1, style=PageLabelStyle.LOWERCASE_ROMAN)
    writer.set_page_label(2, 3, style=PageLabelStyle.DECIMAL, prefix="A-", start=7)
    part = writer.add_outline_item(title="Part I", page_number=0)
    writer.add_outline_item(title="Risk\nfactors", page_number=2, parent=part)
    writer.add_outline_item(title="Annex", page_number=3)
    writer.add_metadata({"/Author": "A. Writer"})
    writer.write(target)
    return target


def test_metadata_labels_and_outline(make_pdf, tmp_path):
    path = with_structure(make_pdf(["a", "b", "c", "d"]), tmp_path / "structured.pdf")
    structure = read_structure(path, 4)
    assert structure.warnings == []
    assert structure.metadata["Title"] == "A Made Document"
    assert structure.metadata["Author"] == "A. Writer"
    assert structure.labels == ["i", "ii", "A-7", "A-8"]
    assert structure.outline == [
        OutlineEntry(1, "Part I", 1),
        OutlineEntry(2, "Risk factors", 3),
        OutlineEntry(1, "Annex", 4),
    ]


def test_plain_numbers_are_no_labels(make_pdf):
    assert read_structure(make_pdf(["a", "b"]), 2).labels == []


def test_what_takes_too_long_is_left_out_with_a_warning(make_pdf, monkeypatch):
    def endless(self):
        while True:
            pass

    monkeypatch.setattr(PdfReader, "outline", property(endless))
    structure = read_structure(make_pdf(["a"]), 1, timeout_s=0.2)
    assert structure.metadata["Title"] == "A Made Document"
    assert structure.warnings == ["Reading the outline took longer than 0.2 s and was left out."]


def test_rubbish_is_a_warning(tmp_path):
    path = tmp_path / "rubbish.pdf"
    path.write_bytes(b"%PDF-1.4\nrubbish")
    assert read_structure(path, 1).warnings
