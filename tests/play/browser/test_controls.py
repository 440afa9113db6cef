"""Every kind of control of an action space by mouse and by keyboard, and views of several pictures."""

import os
import pathlib

import pytest

ODD = pathlib.Path(__file__).resolve().parents[1]  # where odd.py is


@pytest.fixture
def page(visit, serve, monkeypatch, tmp_path):
    """An environment alone with two sliders, a choice, a toggle, and two pictures."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ODD), os.environ.get("PYTHONPATH", "")]))
    with serve("odd:Everything", data=tmp_path / "data") as game:
        yield visit(game.url)


def act(page, do):
    """Does what is one step of a paused game, and gives the values that it was made with."""
    before = page.step["t"]
    do()
    return page.at(before + 1)["action"]


def told(page):
    """The values that the page sent last."""
    return page.said("action")[-1]["value"]


def test_sliders_choices_toggles_and_views_are_worked(page):
    names = page("() => [...document.querySelectorAll('.control')].map(each => each.dataset.control)")
    assert names == ["force/0", "force/1", "gear/0", "gear/1"]

    # A slider that is dragged is one step, where it is let go; a double click brings it back.
    slider = page.page.locator('[id="control-force/0"]')
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.page.mouse.move(x, y)
    page.page.mouse.down()
    for share in (0.1, 0.2, 0.3, 0.4):
        page.page.mouse.move(x + share * box["width"], y)
    page.until(lambda: told(page)["force/0"] > 0.7, "the drag")
    assert page.step["t"] == 0 and not page.said("step")
    assert act(page, page.page.mouse.up)["force/0"] == pytest.approx(0.8, abs=0.1)
    slider.dblclick()
    page.until(lambda: told(page)["force/0"] == 0, "the slider at rest")
    page.until(lambda: page.step["t"] == len(page.said("step")), "the steps of the two clicks")

    # Keys hold an end each, of both at once; a slider that has the focus takes its own keys.
    act(page, lambda: page.keyboard.down("ArrowRight"))
    found = act(page, lambda: page.keyboard.down("ArrowUp"))
    assert (found["force/0"], found["force/1"]) == (1, 1)
    page.keyboard.up("ArrowRight")
    page.keyboard.up("ArrowUp")
    page.until(lambda: (told(page)["force/0"], told(page)["force/1"]) == (0, 0), "the release")
    page.page.focus('[id="control-force/1"]')
    assert act(page, lambda: page.keyboard.press("Home"))["force/1"] == -1
    page.keyboard.press("Escape")

    # A toggle stays, whatever else is pressed.
    assert act(page, lambda: page.page.click("[data-control='gear/1'] button"))["gear/1"] == 1
    found = act(page, lambda: page.page.click("[data-control='gear/0'] button >> nth=3"))
    assert (found["gear/0"], found["gear/1"]) == (3, 1)

    assert page.pixels("real")[:2] == (24, 24)
    page.page.locator("#views input").nth(1).check()
    page.until(lambda: page.pixels("real")[:2] == (16, 40), "the other picture")
    assert page.page.locator("#canvas-real").bounding_box()["height"] <= 0.5 * 900  # however high it is

    # An action takes over from another player, a toggle as every other.
    page.keyboard.press("p")
    page.until(lambda: page.state["player"] == "random", "the random player")
    page.page.click("[data-control='gear/1'] button")
    page.until(lambda: page.state["player"] == "human" and told(page)["gear/1"] == 0, "the human")
