from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
import torch

from forebear.tasks.machine import thread_tuning as module
from forebear.tasks.machine.thread_tuning import ThreadTuner

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def play(threads: ThreadTuner, cost: Callable[[int, float], float], until: float) -> list[int]:
    """Steps on a clock of our own, each as long as `cost(threads, now)`; the counts used."""
    now, used = 0.0, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "perf_counter", lambda: now)
        while now < until:
            used.append(torch.get_num_threads())
            with threads:
                now += cost(used[-1], now)
    return used


def test_all_threads_compute_on_a_quiet_machine() -> None:
    used = play(ThreadTuner(CPU), lambda count, _: 0.10 / count, until=30)
    assert used[:6] == [2, 1, 1, 2, 2, 2]
    assert used.count(1) == 2


def test_one_thread_computes_beside_a_busy_neighbour_and_few_steps_are_lost() -> None:
    used = play(ThreadTuner(CPU), lambda count, _: 0.10 if count == 1 else 3.0, until=300)
    assert used.count(2) <= 8  # the first step and one try each 5, 10, 20, 40, 80, 80, ... seconds
    assert used.count(1) > 2500


def test_all_threads_return_when_the_neighbour_leaves() -> None:
    def cost(count: int, now: float) -> float:
        return (0.05 if now > 60 else 3.0) if count == 2 else 0.10

    used = play(ThreadTuner(CPU), cost, until=200)
    assert set(used[-500:]) == {2}


def test_a_neighbour_who_comes_later_is_noticed() -> None:
    used = play(
        ThreadTuner(CPU), lambda c, now: 0.1 if c == 1 else 0.05 if now < 20 else 2.0, until=90
    )
    assert used[100] == 2
    assert used[-1] == 1


def test_a_fixed_number_is_kept() -> None:
    threads = ThreadTuner(CPU, 1)
    with threads:
        pass
    assert torch.get_num_threads() == 1
    assert not threads.chooses
    with pytest.raises(ValueError, match="threads=0: expected 1 or more"):
        ThreadTuner(CPU, 0)


def test_a_careful_run_takes_no_step_with_all_threads_while_that_is_bound_to_be_slower(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    busy = [True]
    monkeypatch.setattr(module, "crowded", lambda _: busy[0])
    threads = ThreadTuner(CPU, careful=True)
    used = play(threads, lambda count, _: 0.10 if count == 1 else 3.0, until=30)
    assert set(used) == {1}
    busy[0] = False
    used = play(threads, lambda count, _: 0.10 / count, until=60)
    assert used[-1] == 2


def test_short_products_leave_the_number_of_threads_as_it_is() -> None:
    module.crowded(2)
    assert torch.get_num_threads() == 2
    with module.uncrowded():
        assert torch.get_num_threads() in (1, 2)
    assert torch.get_num_threads() == 2
