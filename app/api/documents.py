"""The library's documents over HTTP: adding, listing, reading their pages, removing."""

import asyncio
import contextlib
import re
import tempfile
import time
from dataclasses import asdict
from typing import Any, BinaryIO, cast

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.responses import Response

from longleaf.app.uploads import Outcome
from longleaf.app.work_queue import Job, JobView
from longleaf.ingestion import Document, Library

from .errors import ApiError, ClientGoneError, invalid, json_response, stopping
from .state import ApiState, record_of, state_of

__all__ = ["document_object", "find_document", "router"]

router = APIRouter()

_POLL_S = 0.1
_IN_MEMORY_BYTES = 1 << 20
_HEX = re.compile(r"[0-9a-f]{6,64}")
_STATES = {"answering": "running", "answered": "done"}
_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}, "password": {"type": "string"}},
                }
            },
            "application/pdf": {"schema": {"type": "string", "format": "binary"}},
            "text/plain": {"schema": {"type": "string"}},
            "text/markdown": {"schema": {"type": "string"}},
        },
    }
}


def find_document(library: Library, ref: str) -> Document:
    """A document by its id, at least 6 characters of that, or its name. No file of this machine is looked for.

    Raises:
        ApiError: There is none, or several.
    """
    documents = library.documents()
    found = [document for document in documents if ref in (document.sha256, document.name)]
    if not found and _HEX.fullmatch(ref.lower()):
        found = [document for document in documents if document.sha256.startswith(ref.lower())]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(document.sha256[:12] for document in found)
        raise invalid(f"{ref}: several documents go by this; use one of {ids}", "document", "document_ambiguous")
    raise invalid(f"{ref}: no such document in the library", "document", "document_not_found", 404)


def document_object(document: Document) -> dict[str, Any]:
    """A document as these endpoints show it."""
    shown = asdict(document)
    del shown["outline"], shown["revision"], shown["sha256"]
    return {**shown, "id": document.sha256, "object": "document"}


@router.post("/v1/documents", summary="Add a document", status_code=202, openapi_extra=_UPLOAD)
async def add_document(request: Request, wait: bool = False, name: str = "", password: str = "") -> Response:
    """Takes a PDF, text or Markdown file into the library.

    The file comes as the field `file` of a form, or is the body itself, with its name in the query. Reading it is a
    job: it answers 202 with the job to poll, or, with `wait=true`, when the document is read.
    """
    state, owner = state_of(request), record_of(request).owner
    state.check_files()
    async with contextlib.AsyncExitStack() as stack:
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            form = await stack.enter_async_context(request.form(max_files=1, max_fields=8))
            upload = form.get("file")
            if not isinstance(upload, UploadFile):
                raise invalid("the form needs the field 'file' with a file", "file", "missing_required_parameter")
            file, name = upload.file, name or upload.filename or "document"
            password = password or str(form.get("password") or "")
        else:
            if not name:
                raise invalid(
                    "a document that is the body itself needs its name in the query: ?name=report.pdf",
                    "name",
                    "missing_required_parameter",
                )
            spooled = stack.enter_context(_spooled())
            async for block in request.stream():
                spooled.write(block)
            file = cast("BinaryIO", spooled)
        state.check_files()
        service = state.service
        job = await run_in_threadpool(service.add_file, name, file, owner=owner, password=password or None)
    if wait:
        return await _waited(state, request, job)
    return json_response(_job_object(job.view()), 202, {"location": f"/v1/jobs/{job.id}"})


def _spooled() -> "tempfile.SpooledTemporaryFile[bytes]":
    return tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)


async def _waited(state: ApiState, request: Request, job: Job[Outcome]) -> Response:
    """The document when it is read; the job where that takes longer than a request may."""
    until = time.monotonic() + state.options.timeout_s
    gone = asyncio.create_task(_gone(request))
    try:
        while not (view := job.view()).finished:
            _check_wanted(state, gone)
            if time.monotonic() > until:
                return json_response(_job_object(view), 202, {"location": f"/v1/jobs/{job.id}"})
            await asyncio.sleep(_POLL_S)
    except BaseException:
        job.stop()  # the pages that were read stay
        raise
    finally:
        gone.cancel()
    outcome = view.result
    if outcome is None or not outcome.added or outcome.document is None:
        message = f"{view.title}: {outcome.text if outcome else view.error or 'stopped before anything was kept'}"
        raise invalid(message, "file", "document_unreadable", 422)
    return json_response(document_object(outcome.document) | {"message": outcome.text}, 201)


def _check_wanted(state: ApiState, gone: "asyncio.Task[None]") -> None:
    if gone.done():
        raise ClientGoneError
    if state.stopping:
        raise stopping()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _job_object(view: JobView[Any]) -> dict[str, Any]:
    outcome = view.result if isinstance(view.result, Outcome) else None
    state = _STATES.get(view.state, view.state)
    if outcome is not None and state == "done" and not outcome.added:
        state = "failed"
    return {
        "id": view.id,
        "object": "job",
        "state": state,
        "name": view.title,
        "place": view.place,
        "stage": view.stage,
        "done": view.done,
        "total": view.total,
        "seconds_left": None if view.seconds_left is None else round(view.seconds_left, 1),
        "message": outcome.text if outcome else view.error,
        "document": document_object(outcome.document) if outcome and outcome.document else None,
    }


def _own_job(request: Request, job_id: str) -> Job[Any]:
    job = state_of(request).service.work.find(job_id)
    if job is None or job.owner != record_of(request).owner:
        raise invalid(f"{job_id}: no such job, or it was over long ago", "job", "job_not_found", 404)
    return job


@router.get("/v1/jobs/{job_id}", summary="How far a document is read")
def show_job(job_id: str, request: Request) -> Response:
    """Its state is waiting, running, done, failed or stopped."""
    return json_response(_job_object(_own_job(request, job_id).view()))


@router.delete("/v1/jobs/{job_id}", summary="Stop reading a document")
def stop_job(job_id: str, request: Request) -> Response:
    """The pages that were read stay, and adding the file again goes on there."""
    job = _own_job(request, job_id)
    job.stop()
    return json_response(_job_object(job.view()))


@router.get("/v1/documents", summary="List documents")
def list_documents(request: Request, collection: str | None = None) -> Response:
    """All, or those of a collection."""
    library = state_of(request).service.library
    documents = library.documents()
    if collection is not None:
        wanted = set(library.collections.find(collection).document_ids)
        documents = [document for document in documents if document.id in wanted]
    return json_response({"object": "list", "data": [document_object(document) for document in documents]})


@router.get("/v1/documents/{document}", summary="One document")
def show_document(document: str, request: Request) -> Response:
    """With its outline."""
    found = find_document(state_of(request).service.library, document)
    return json_response(document_object(found) | {"outline": [asdict(entry) for entry in found.outline]})


@router.delete("/v1/documents/{document}", summary="Remove a document")
def remove_document(document: str, request: Request) -> Response:
    """With everything that came from it: pages, passages, vectors, readings, summaries, what chats say of it."""
    service = state_of(request).service
    found = find_document(service.library, document)
    service.remove([found])
    return json_response({"id": found.sha256, "object": "document.deleted", "deleted": True})


@router.get("/v1/documents/{document}/pages/{page}", summary="The text of a page")
def show_page(document: str, page: int, request: Request) -> Response:
    """Pages are counted from 1."""
    library = state_of(request).service.library
    found = find_document(library, document)
    if not 1 <= page <= found.n_pages:
        raise ApiError(404, f"{found.name} has {found.n_pages} pages; there is no page {page}", param="page")
    text = library.page(found, page)
    shown = {"label": text.label, "source": text.source, "note": text.note, "text": text.text}
    return json_response({"document": found.sha256, "page": text.number, **shown})
