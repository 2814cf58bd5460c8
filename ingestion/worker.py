"""The parser process: `python -m longleaf.ingestion.worker`, started by `ParserProcess`.

Reads requests from standard input and writes answers to standard output (frames of `wire.py`). All code that touches
the inside of a PDF runs here, under a memory and a CPU limit, so that a hostile or broken file can end no more than
this process. It stores nothing and ends when its input closes.

Requests (`op`) and their answers:

    open    path, password, repair, scratch -> {opened}, then {metadata, labels, outline, warnings, copy,
            is_damaged}
    pages   path, numbers, ocr, is_damaged -> {opened}, then for each page {page: n, …} + text and boxes;
            {ocr: n} before a page that goes through OCR
    image   path, number, dpi -> {} + PNG

Any of them may answer {error, reason} instead: the name of an error class and its text.
"""

import gc
import os
import queue
import resource
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from longleaf.errors import DocumentError

from .boxes import encode_boxes
from .ocr import OCR_DPI, ocr_missing, read_picture
from .pdf_parser import PdfFile
from .pdf_repair import open_pdf
from .pdf_structure import read_structure
from .png import encode_png
from .wire import Frame, encode_frame, read_frame

__all__ = ["main"]

_CPU_SECONDS = 150  # for one page or for opening; the parent's clock is the first to stop what hangs


def main(arguments: list[str] | None = None) -> None:
    """Serve until standard input closes.

    Args:
        arguments: Memory in bytes that parsing may take on top of the bare process, and seconds for OCR of one page.
    """
    memory_bytes, ocr_timeout_s = (arguments if arguments is not None else sys.argv[1:])[:2] or ("0", "120")
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nothing that prints may get between the frames
    _limit_memory(int(memory_bytes))
    requests: queue.SimpleQueue[Frame] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, requests), daemon=True).start()
    worker = _Worker(replies, float(ocr_timeout_s))
    gc.freeze()
    while True:
        header, _ = requests.get()
        try:
            worker.serve(header)
        except BrokenPipeError:
            os._exit(0)


def _listen(stream: BinaryIO, requests: "queue.SimpleQueue[Frame]") -> None:
    """Take requests off the pipe; end the process when its parent is gone, whatever it is doing."""
    while (frame := read_frame(stream)) is not None:
        requests.put(frame)
    os._exit(0)


def _limit_memory(extra_bytes: int) -> None:
    if extra_bytes <= 0:
        return
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + extra_bytes
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        if hard == resource.RLIM_INFINITY or limit < hard:
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except (OSError, ValueError):
        return  # no /proc (macOS): the time limit remains


def _limit_cpu() -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(used.ru_utime + used.ru_stime) + _CPU_SECONDS
    if hard == resource.RLIM_INFINITY or soft < hard:
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


class _Worker:
    def __init__(self, replies: BinaryIO, ocr_timeout_s: float) -> None:
        self._replies = replies
        self._ocr_timeout_s = ocr_timeout_s
        self._pdf: PdfFile | None = None

    def serve(self, request: dict[str, Any]) -> None:
        _limit_cpu()
        try:
            getattr(self, "_" + request["op"])(request)
        except DocumentError as exc:
            self._reply({"error": type(exc).__name__, "reason": exc.reason})
        except BrokenPipeError:
            raise
        except MemoryError:
            self._reply({"error": "ParserLimitError", "reason": "parsing it takes more memory than the parser may use"})
        except Exception as exc:
            self._reply({"error": "DamagedFileError", "reason": f"parsing failed ({type(exc).__name__}: {exc})"})

    def _reply(self, header: dict[str, Any], payload: bytes = b"") -> None:
        self._replies.write(encode_frame(header, payload))
        self._replies.flush()

    def _file(self, path: str) -> PdfFile:
        if self._pdf is None or str(self._pdf.path) != path:
            self._keep(PdfFile(Path(path)))
        assert self._pdf is not None
        return self._pdf

    def _keep(self, pdf: PdfFile) -> None:
        if self._pdf is not None:
            self._pdf.close()
        self._pdf = pdf

    def _open(self, request: dict[str, Any]) -> None:
        opened = open_pdf(
            Path(request["path"]), request["password"], repair=request["repair"], scratch=Path(request["scratch"])
        )
        self._keep(opened.pdf)
        self._reply({"opened": len(opened.pdf)})
        structure = read_structure(opened.copy or Path(request["path"]), len(opened.pdf))
        self._reply(
            {
                "metadata": structure.metadata,
                "labels": structure.labels,
                "outline": [asdict(entry) for entry in structure.outline],
                "warnings": opened.warnings + structure.warnings,
                "copy": str(opened.copy) if opened.copy else None,
                "is_damaged": opened.is_damaged,
            }
        )

    def _pages(self, request: dict[str, Any]) -> None:
        pdf = self._file(request["path"])
        missing = ocr_missing() if request["ocr"] else "it is switched off"
        self._reply({"opened": len(pdf)})
        for number in request["numbers"]:
            _limit_cpu()
            try:
                self._page(pdf, number, missing, is_damaged=request["is_damaged"])
            except MemoryError:
                self._lost(number, "it takes more memory than the parser may use")
            except DocumentError as exc:
                self._lost(number, exc.reason)
            except (OSError, RuntimeError, ValueError) as exc:
                if isinstance(exc, BrokenPipeError):
                    raise
                self._lost(number, f"parsing failed ({type(exc).__name__}: {exc})")

    def _lost(self, number: int, note: str) -> None:
        self._reply({"page": number, "source": "none", "note": note, "width": 0.0, "height": 0.0, "n_text": 0})

    def _page(self, pdf: PdfFile, number: int, missing: str, *, is_damaged: bool) -> None:
        page = pdf.read_page(number - 1)
        if is_damaged and not page.has_images and (page.verdict == "scan" or not page.text):
            self._lost(number, "nothing of it is left in the damaged file")
            return
        text, boxes, source, note = page.text, page.boxes, "text", ""
        needs_ocr = False
        if page.verdict != "text":
            if page.verdict == "garbage":
                text, boxes = "", boxes[:0]
            needs_ocr = True
            source, note = "none", f"{page.why}; no OCR: {missing}"
            if not missing:
                self._reply({"ocr": number})
                try:
                    picture = pdf.render(number - 1, OCR_DPI, grey=True)
                    text, boxes = read_picture(picture, page.width, page.height, timeout_s=self._ocr_timeout_s)
                    source, note, needs_ocr = "ocr", "", False
                except RuntimeError as exc:
                    note, needs_ocr = f"{page.why}; OCR failed: {exc}", False
        data = text.encode()
        self._reply(
            {
                "page": number,
                "source": source,
                "note": note,
                "needs_ocr": needs_ocr,
                "width": page.width,
                "height": page.height,
                "n_text": len(data),
            },
            data + encode_boxes(boxes),
        )

    def _image(self, request: dict[str, Any]) -> None:
        pixels = self._file(request["path"]).render(request["number"] - 1, request["dpi"])
        self._reply({}, encode_png(pixels))


if __name__ == "__main__":
    main()
