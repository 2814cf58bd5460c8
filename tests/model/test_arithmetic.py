"""All arithmetic in one thread, for whoever asks: calls back, errors, Ctrl-C, forks."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from longleaf.model.arithmetic import Asker, compute

here = threading.get_ident


def test_all_threads_get_the_same_one_and_it_is_none_of_them():
    found = [compute(lambda _: here())]
    threads = [threading.Thread(target=lambda: found.append(compute(lambda _: here()))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1
    assert found[0] != here()


def test_work_asked_for_by_work_is_done_on_the_spot():
    def outer(_: Asker) -> tuple[int, int]:
        return here(), compute(lambda asker: asker.there(here)())

    assert len(set(compute(outer))) == 1


def test_a_callback_is_called_where_the_work_was_asked_for():
    assert compute(lambda asker: [asker.there(lambda n: (here(), n))(n) for n in range(3)]) == [
        (here(), n) for n in range(3)
    ]


def test_what_a_callback_raises_is_raised_in_the_work_and_then_where_it_was_asked_for():
    tidied = []

    def fail() -> None:
        raise LookupError("no such page")

    def work(asker: Asker) -> None:
        try:
            asker.there(fail)()
        finally:
            tidied.append(here())

    with pytest.raises(LookupError, match="no such page"):
        compute(work)
    assert tidied == [compute(lambda _: here())]


def test_work_is_done_in_the_order_of_asking():
    begun, go, done = threading.Event(), threading.Event(), []
    first = threading.Thread(target=lambda: compute(lambda _: (begun.set(), go.wait(30), done.append("first"))))
    first.start()
    assert begun.wait(30)
    second = threading.Thread(target=lambda: compute(lambda _: done.append("second")))
    second.start()
    go.set()
    compute(lambda _: None)
    first.join()
    second.join()
    assert done == ["first", "second"]


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_is_raised_inside_the_work_where_it_next_calls_back():
    seen = []

    def work(asker: Asker) -> None:
        go_on = asker.there(lambda: True)
        try:
            interrupt()
            deadline = time.monotonic() + 30
            while go_on() and time.monotonic() < deadline:
                seen.append(1)
        except KeyboardInterrupt:
            seen.append("interrupted")
            raise

    with pytest.raises(KeyboardInterrupt):
        compute(work)
    assert seen[-1] == "interrupted"


def test_ctrl_c_waits_for_work_that_does_not_call_back():
    ended = []

    def work(_: Asker) -> None:
        interrupt()
        time.sleep(0.2)
        ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        compute(work)
    assert ended == [True]
    assert compute(lambda _: "the next piece of work") == "the next piece of work"


def test_many_interrupts_lose_neither_the_work_nor_the_waiting_thread():
    """Signals meet the thread that waits between any two of its steps."""
    script = """
import os, signal, sys, threading, time
from longleaf.model.arithmetic import compute

class Stop(Exception): ...

def on_signal(*_): raise Stop
signal.signal(signal.SIGUSR1, on_signal)
shooting = True
def shoot():
    while shooting:
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.0003)

stopped = done = 0
ended = time.monotonic() + 2
def begin():
    global shooter
    shooter = threading.Thread(target=shoot, daemon=True)
    shooter.start()
states = []
def work(asker):
    states.append("begun")
    try:
        for n in range(20): asker.there(lambda: n)()
    finally:
        states[-1] = "ended"
    return "done"
try:
    begin()
except Stop: pass
while time.monotonic() < ended:
    try:
        n_before = len(states)
        compute(work)
        done += 1
    except Stop:
        stopped += 1
        if len(states) > n_before and states[-1] != "ended":
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            sys.exit("left before the work was over")
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
shooting = False
assert stopped > 100, stopped
print(compute(lambda asker: asker.there(lambda: "alive")()))
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert ran.stdout == "alive\n", ran.stderr[-2000:]


def test_a_forked_child_computes_too():
    script = """
import os
from longleaf.model.arithmetic import compute
assert compute(lambda _: 1) == 1
child = os.fork()
if child == 0:
    os._exit(compute(lambda _: 7))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=60)
    assert ran.stdout == "7\n", ran.stderr[-2000:]
