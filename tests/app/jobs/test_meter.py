"""Tokens are counted, and calls are held back exactly as long as a budget wants; on a clock that the test turns."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, Generation, LLMResult

from longleaf.app.jobs import meter
from longleaf.app.jobs.meter import Meter, TokenBudget


class Clock:
    """Time passes where somebody sleeps, and where the test says so."""

    def __init__(self) -> None:
        self.now, self.naps = 1_000.0, 0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= 0.25  # asked to stop, it does so at once
        self.now += seconds
        self.naps += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(meter, "time", SimpleNamespace(monotonic=clock.monotonic, sleep=clock.sleep))
    return clock


def waited(budget: TokenBudget, clock: Clock) -> float:
    before = clock.now
    budget.wait(lambda: False)
    return clock.now - before


def test_a_minute_s_share_may_be_spent_at_once_and_what_is_overdrawn_is_waited_for(clock: Clock) -> None:
    budget = TokenBudget(600)  # 10 a second
    assert waited(budget, clock) == 0
    budget.spend(600)
    assert waited(budget, clock) == 0  # nothing is owed
    budget.spend(150)
    assert waited(budget, clock) == pytest.approx(15, abs=0.01)
    assert waited(budget, clock) == 0
    budget.spend(50)
    assert waited(budget, clock) == pytest.approx(5, abs=0.01)


def test_a_document_larger_than_a_minute_s_share_is_paid_for_in_full(clock: Clock) -> None:
    budget = TokenBudget(600)
    budget.spend(6_600)
    assert waited(budget, clock) == pytest.approx(600, abs=0.01)


def test_time_pays_but_no_more_than_a_minute_s_share(clock: Clock) -> None:
    budget = TokenBudget(600)
    budget.spend(700)
    clock.now += 4
    assert waited(budget, clock) == pytest.approx(6, abs=0.01)
    clock.now += 3_600
    budget.spend(601)
    assert waited(budget, clock) == pytest.approx(0.1, abs=0.01)


def test_over_any_time_the_mean_is_kept(clock: Clock) -> None:
    budget, spent, begun = TokenBudget(6_000), 0, clock.now
    for tokens in [4_000, 100, 9_000, 2_500, 12_345, 800] * 5:
        budget.wait(lambda: False)
        assert spent <= 6_000 + 100 * (clock.now - begun) + 1
        budget.spend(tokens)
        spent += tokens
    assert waited(budget, clock) + (clock.now - begun) >= (spent - 6_000) / 100


def test_waiting_ends_when_asked_to_stop(clock: Clock) -> None:
    budget = TokenBudget(60)
    budget.spend(100_000)
    budget.wait(lambda: clock.naps >= 3)
    assert clock.naps == 3


def test_workers_share_a_budget(clock: Clock) -> None:
    budget = TokenBudget(600)
    threads = [threading.Thread(target=lambda: [budget.spend(1) for _ in range(500)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert waited(budget, clock) == pytest.approx(90, abs=0.01)


def called(*usages: dict[str, Any] | None) -> LLMResult:
    return LLMResult(generations=[[ChatGeneration(message=AIMessage("", usage_metadata=usage))] for usage in usages])


def usage(given: int, written: int, **details: int) -> dict[str, Any]:
    found: dict[str, Any] = {"input_tokens": given, "output_tokens": written, "total_tokens": given + written}
    return found | ({"input_token_details": details} if details else {})


def test_the_tokens_of_all_calls_add_up(clock: Clock) -> None:
    counted = Meter(None, lambda: False)
    counted.on_chat_model_start({}, [[HumanMessage("Who?")]])
    counted.on_llm_end(called(usage(100, 7), usage(50, 3, cache_read=40)))
    counted.on_llm_end(called(usage(10, 1, audio=4)))
    counted.on_llm_end(called(None))
    counted.on_llm_end(LLMResult(generations=[[Generation(text="no message")]]))
    assert (counted.prompt, counted.reused, counted.written) == (160, 40, 11)


def test_calls_take_from_the_budget_and_wait_for_it(clock: Clock) -> None:
    budget = TokenBudget(600)
    first, second = Meter(budget, lambda: False), Meter(budget, lambda: False)
    first.on_chat_model_start({}, [[HumanMessage("Who?")]])
    first.on_llm_end(called(usage(690, 10, cache_read=600)))  # what was in the cache counts as well
    begun = clock.now
    second.on_chat_model_start({}, [[HumanMessage("What?")]])
    assert clock.now - begun == pytest.approx(10, abs=0.01)
