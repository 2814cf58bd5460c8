"""POST /v1/embeddings and GET /v1/models."""

import base64

import numpy as np
import pytest

PATH = "/v1/embeddings"


async def test_vectors_come_as_numbers_and_as_base64(client) -> None:
    texts = ["aab", "ccc"] * 40  # more than one batch
    response = (await client.post(PATH, json={"model": "letters", "input": texts})).json()
    assert (response["object"], response["model"]) == ("list", "letters")
    assert [row["index"] for row in response["data"]] == list(range(80))
    assert response["usage"] == {"prompt_tokens": 80, "total_tokens": 80}
    vectors = np.array([row["embedding"] for row in response["data"]])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(80))
    assert vectors[1] == pytest.approx(vectors[79])
    one = (await client.post(PATH, json={"model": "letters", "input": "ccc", "encoding_format": "base64"})).json()
    (row,) = one["data"]
    assert np.frombuffer(base64.b64decode(row["embedding"]), "<f4") == pytest.approx(vectors[1])


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"input": [1, 2, 3]}, 400, "tokens_not_supported"),
        ({"input": [[1, 2], [3]]}, 400, "tokens_not_supported"),
        ({"input": ""}, 400, None),
        ({"input": []}, 400, None),
        ({"input": ["a"] * 2049}, 400, None),
        ({"input": "a", "dimensions": 7}, 400, None),
        ({"input": "a", "colour": 1}, 400, "unknown_parameter"),
        ({"input": "a", "model": "smollm2-135m"}, 404, "model_not_found"),
    ],
)
async def test_what_can_not_be_embedded_is_refused(client, body, status, code) -> None:
    response = await client.post(PATH, json={"model": "letters"} | body)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


async def test_models_are_the_reader_and_the_embedder(client) -> None:
    listed = (await client.get("/v1/models")).json()
    assert [model["id"] for model in listed["data"]] == ["smollm2-135m", "letters"]
    assert (await client.get("/v1/models/smollm2-135m")).json() == listed["data"][0]
    assert listed["data"][0]["context_tokens"] == 64
    missing = await client.get("/v1/models/gpt-4o")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
