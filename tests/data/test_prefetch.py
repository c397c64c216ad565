import contextlib
import itertools
import threading

import pytest

from windownet.data.prefetch import prefetch


def workers():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.mark.parametrize("ahead", [1, 2, 7])
def test_all_items_come_in_order(ahead):
    assert list(prefetch(range(100), ahead)) == list(range(100))
    assert list(prefetch([], ahead)) == []
    assert list(prefetch([None, "end", "error", None])) == [None, "end", "error", None]
    assert not workers()


def test_items_are_prepared_ahead_but_not_without_bound():
    ahead_enough, too_far = threading.Event(), threading.Event()

    def items():
        for n in itertools.count():
            if n == 3:
                ahead_enough.set()
            if n == 6:
                too_far.set()
            yield n

    with contextlib.closing(prefetch(items(), ahead=2)) as fetched:
        assert next(fetched) == 0
        # One taken, two waiting, one in the worker's hand: the fourth, n = 3, is prepared while none is asked for.
        assert ahead_enough.wait(30)
        assert not too_far.wait(0.2)


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt("stop")])
def test_an_error_comes_where_its_item_would(error):
    def items():
        yield from range(3)
        raise error

    got = []
    with pytest.raises(type(error)) as caught:
        got.extend(item for item in prefetch(items()))
    assert caught.value is error
    fetched = prefetch(items())
    assert [next(fetched) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(type(error)):
        next(fetched)
    assert not workers()


def test_whoever_stops_early_leaves_no_thread():
    fetched = prefetch(itertools.count())
    assert [next(fetched), next(fetched)] == [0, 1]
    assert len(workers()) == 1
    fetched.close()
    assert not workers()

    def takes_two_and_breaks():
        for item in prefetch(itertools.count()):
            if item == 1:
                raise RuntimeError("the step broke")

    with pytest.raises(RuntimeError, match="the step broke"):
        takes_two_and_breaks()
    assert not workers()
