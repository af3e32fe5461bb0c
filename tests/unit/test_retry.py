"""Retries: delays double up to a limit; only the first failure and the success that ends a series are announced."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from custodes.retry import Retry


class ManualClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_delays_double_up_to_the_limit_and_start_over_after_a_success() -> None:
    clock = ManualClock()
    retry = Retry(2.0, 30.0, clock)
    delays = []
    for _ in range(6):
        retry.failed()
        delays.append(retry.delay)
    assert delays == [2, 4, 8, 16, 30, 30]
    retry.succeeded()
    assert retry.delay == 0
    assert retry.is_due()
    retry.failed()
    assert retry.delay == 2


def test_without_a_limit_every_delay_is_the_first() -> None:
    retry = Retry(5.0, clock=ManualClock())
    for _ in range(3):
        retry.failed()
        assert retry.delay == 5


def test_an_attempt_is_due_when_the_delay_has_passed() -> None:
    clock = ManualClock()
    retry = Retry(2.0, clock=clock)
    assert retry.is_due()
    retry.failed()
    clock.now = 1.5
    assert not retry.is_due()
    assert retry.seconds_left == 0.5
    clock.now = 2.0
    assert retry.is_due()
    assert retry.seconds_left == 0


@given(st.lists(st.booleans(), max_size=200))
def test_a_series_of_failures_is_announced_once_and_ended_once(outcomes: list[bool]) -> None:
    retry = Retry(1.0, 60.0, ManualClock())
    announced = False
    for succeeded in outcomes:
        if succeeded:
            assert retry.succeeded() is announced
            announced = False
        else:
            assert retry.failed() is not announced
            announced = True
    assert (retry.failures > 0) is announced


def test_failures_for_years_do_not_overflow() -> None:
    retry = Retry(1.0, 60.0, ManualClock())
    for _ in range(5_000):
        retry.failed()
    assert retry.delay == 60
