"""Figures are drawn beside training: which of many, and which errors arrive."""

import threading

import pytest

from hfjax.training import drawing


@pytest.fixture
def clock(monkeypatch):
    """The time that the drawer sees (s), in a list."""
    now = [100.0]
    monkeypatch.setattr(drawing.time, "monotonic", lambda: now[0])
    return now


def test_a_drawing_is_followed_by_a_pause_and_the_newest_is_drawn_in_the_end(clock):
    drawn, done = [], threading.Event()

    def draw(number):
        clock[0] += 2.0
        drawn.append(number)
        done.set()

    drawer = drawing.Drawer(draw)
    drawer(0)
    assert done.wait(10)
    drawer._calls[0].result()
    clock[0] += 5.9  # it rests for three times two seconds
    drawer(1)
    drawer(2)
    assert drawn == [0]
    clock[0] += 0.2
    done.clear()
    drawer(3)
    assert done.wait(10)
    drawer(4)
    drawer(5)
    drawer.finish()
    assert drawn == [0, 3, 5]


def test_nothing_is_drawn_twice_and_a_closed_drawer_has_drawn_what_waits():
    drawn = []
    drawer = drawing.Drawer(drawn.append)
    drawer.close()
    assert drawn == []
    drawer = drawing.Drawer(drawn.append)
    drawer("first")
    drawer("last")
    drawer.close()
    assert drawn[-1] == "last"
    assert len(drawn) == len(set(drawn))


def test_an_error_of_a_drawing_arrives():
    def draw(number):
        raise OSError("no space")

    drawer = drawing.Drawer(draw)
    drawer(0)
    with pytest.raises(OSError, match="no space"):
        drawer.finish()
    drawer = drawing.Drawer(draw)
    drawer(0)
    drawer.close()  # in peace
    with pytest.raises(OSError, match="no space"):
        drawer(1)
