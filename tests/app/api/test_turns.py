"""Who waits, who is turned away, and who gives a place back."""

import asyncio

from .conftest import Caller, chat, client_of, events, until

PATH = "/v1/chat/completions"


async def test_a_client_that_goes_away_while_it_waits_gives_its_place_back(start, engine) -> None:
    app = await start(max_waiting=1)
    line = app.state.api.reading
    engine.go.clear()
    first = Caller(app, PATH, chat())
    await until(lambda: line.n_running)
    second = Caller(app, PATH, chat())
    await until(lambda: line.n_waiting)
    async with client_of(app) as client:
        refused = await client.post(PATH, json=chat())
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"

    second.gone.set()
    await second.done()
    assert line.n_waiting == 0
    third = Caller(app, PATH, chat())
    engine.go.set()
    assert ((await first.done()).status, (await third.done()).status) == (200, 200)
    assert len(engine.calls) == 2  # the second was never begun


async def test_a_client_that_goes_away_stops_the_reader(app, engine) -> None:
    for body in (chat(), chat(stream=True)):
        engine.go.clear()
        caller = Caller(app, PATH, body)
        await until(lambda: app.state.api.reading.n_running)
        caller.gone.set()
        await caller.done()
        await until(lambda: not app.state.api.reading.n_running)
    assert engine.cancelled == 2


async def test_a_request_that_takes_too_long_is_ended(start, engine) -> None:
    app = await start(timeout_s=0.1)
    engine.go.clear()
    answered = await Caller(app, PATH, chat()).done()
    assert (answered.status, events(f"data: {answered.text}")[0]["error"]["code"]) == (504, "timeout")
    await until(lambda: not app.state.api.reading.n_running)
    streamed = await Caller(app, PATH, chat(stream=True)).done()
    assert streamed.status == 200
    assert events(streamed.text)[-1]["error"]["code"] == "timeout"


async def test_turns_go_round_among_keys(start, engine) -> None:
    keys = ("a" * 16, "b" * 16)
    app = await start(keys=keys)
    engine.go.clear()
    callers = [Caller(app, PATH, chat("first"), keys[0])]
    await until(lambda: app.state.api.reading.n_running)
    for word, key in (("second", keys[0]), ("third", keys[0]), ("other", keys[1])):
        callers.append(Caller(app, PATH, chat(word), key))
        await until(lambda: app.state.api.reading.n_waiting == len(callers) - 1)
    engine.go.set()
    for caller in callers:
        assert (await caller.done()).status == 200
    assert [call["messages"][-1]["content"] for call in engine.calls] == ["first", "other", "second", "third"]


async def test_a_server_that_ends_lets_what_runs_go_on_and_turns_the_others_away(start, engine) -> None:
    app = await start(grace_s=5)
    engine.go.clear()
    running = Caller(app, PATH, chat())
    await until(lambda: app.state.api.reading.n_running)
    waiting = Caller(app, PATH, chat())
    await until(lambda: app.state.api.reading.n_waiting)
    ending = asyncio.create_task(app.state.api.drain())
    assert (await waiting.done()).status == 503
    async with client_of(app) as client:
        late = await client.post(PATH, json=chat())
        assert (late.status_code, late.json()["error"]["code"]) == (503, "server_stopping")
        assert late.headers["connection"] == "close"
        assert (await client.get("/ready")).status_code == 503
        assert (await client.get("/health")).status_code == 200
    assert not ending.done()
    engine.go.set()
    assert (await running.done()).status == 200
    await ending


async def test_what_takes_longer_than_the_grace_ends_with_an_error_in_words(start, engine) -> None:
    app = await start(grace_s=0.05)
    engine.go.clear()
    stream = Caller(app, PATH, chat(stream=True))
    await stream.got_block.wait()
    await app.state.api.drain()
    answered = await stream.done()
    assert answered.status == 200
    assert events(answered.text)[-1]["error"]["code"] == "server_stopping"
    await until(lambda: engine.cancelled)
