"""Documents and questions about them."""

import json

import pytest

from .conftest import REPORT, Caller, until

FILE = {"file": ("harbour.txt", REPORT.encode(), "text/plain")}
QUESTION = "How many cranes does the board own?"


async def add(client) -> str:
    response = await client.post("/v1/documents?wait=true", files=FILE)
    assert response.status_code == 201, response.text
    return response.json()["id"]


async def test_a_document_is_added_listed_read_and_removed(client) -> None:
    document = await add(client)
    (listed,) = (await client.get("/v1/documents")).json()["data"]
    assert (listed["id"], listed["name"], listed["n_pages"], listed["state"]) == (document, "harbour.txt", 2, "ready")
    assert (await client.get("/v1/documents/harbour.txt")).json()["id"] == document
    page = (await client.get(f"/v1/documents/{document[:8]}/pages/2")).json()
    assert (page["page"], page["document"]) == (2, document)
    assert "11,717" in page["text"]
    assert (await client.get(f"/v1/documents/{document}/pages/3")).status_code == 404
    removed = (await client.delete(f"/v1/documents/{document}")).json()
    assert removed == {"id": document, "object": "document.deleted", "deleted": True}
    missing = await client.get(f"/v1/documents/{document}")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "document_not_found")


async def test_adding_is_a_job_to_poll(client, service) -> None:
    response = await client.post("/v1/documents?name=harbour.txt", content=REPORT.encode())
    assert response.status_code == 202
    address = response.headers["location"]
    assert address == f"/v1/jobs/{response.json()['id']}"
    service.work.find(response.json()["id"]).wait(10)
    job = (await client.get(address)).json()
    assert (job["state"], job["name"], job["document"]["n_pages"]) == ("done", "harbour.txt", 2)
    assert job["message"].startswith("2 pages")
    assert (await client.get("/v1/jobs/nothing")).status_code == 404
    assert (await client.delete(address)).json()["state"] == "done"


async def test_a_file_that_can_not_be_read_says_why(client) -> None:
    files = {"file": ("x.pdf", b"%PDF-1.7 cut", "application/pdf")}
    response = await client.post("/v1/documents?wait=true", files=files)
    assert (response.status_code, response.json()["error"]["code"]) == (422, "document_unreadable")
    assert response.json()["error"]["message"].startswith("x.pdf: ")
    assert (await client.post("/v1/documents", content=b"words")).json()["error"]["param"] == "name"
    assert (await client.post("/v1/documents", files={"other": b"x"})).json()["error"]["param"] == "file"


async def test_no_file_of_the_servers_machine_can_be_named(client, tmp_path) -> None:
    await add(client)
    (tmp_path / "harbour-2.txt").write_text(REPORT)
    body = {"question": QUESTION, "documents": [str(tmp_path / "harbour-2.txt")]}
    assert (await client.post("/v1/ask", json=body)).status_code == 404


async def test_an_answer_is_what_ask_prints_and_a_stream_ends_with_it(client) -> None:
    document = await add(client)
    body = {"question": QUESTION, "documents": [document], "route": "retrieval", "top_k": 3}
    answer = (await client.post("/v1/ask", json=body)).json()
    assert (answer["question"], answer["route"]["name"]) == (QUESTION, "retrieval")
    assert answer["receipt"]["pages_searched"] == 2
    assert {"answer", "found", "citations", "statements", "nearest", "confidence"} <= answer.keys()

    text = (await client.post("/v1/ask", json=body | {"stream": True})).text
    blocks = [block.splitlines() for block in text.strip().split("\n\n")]
    kinds = [lines[0].removeprefix("event: ") for lines in blocks]
    assert kinds[-1] == "answer"
    assert {"progress", "draft"} <= set(kinds)
    streamed = json.loads(blocks[-1][1].removeprefix("data: "))
    assert streamed["answer"] == answer["answer"]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"question": ""}, 400, "question"),
        ({"question": QUESTION, "documents": ["nothing.pdf"]}, 404, "document"),
        ({"question": QUESTION, "collection": "nothing"}, 404, None),
        ({"question": QUESTION, "documents": []}, 400, "documents"),
        ({"question": QUESTION, "pages": "x"}, 400, "pages"),
        ({"question": QUESTION, "route": "other"}, 400, "route"),
        ({"question": QUESTION, "pages": "7-9"}, 400, "question"),
        ({}, 400, "question"),
    ],
)
async def test_a_question_that_can_not_be_asked_is_refused(client, body, status, param) -> None:
    await add(client)
    response = await client.post("/v1/ask", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (status, param)


async def test_who_goes_away_stops_the_answer(app, client, engine) -> None:
    document = await add(client)
    engine.go.clear()
    caller = Caller(app, "/v1/ask", {"question": QUESTION, "documents": [document]})
    await until(lambda: engine.calls)
    caller.gone.set()
    await caller.done()
    await until(lambda: engine.cancelled)
    await until(lambda: not app.state.api.reading.n_running)
