"""Playing in a real browser: keys, time, branches, the dream, and what is kept."""

import io

import numpy as np
import pytest
from PIL import Image

from dreamworld.datasets import open_dataset

USEFUL_HORIZON = 12  # as conftest.py writes it
LEFT, RIGHT, NOTHING = "left", "right", "no-op"


def index(page, choice):
    """The number of a choice of the first control."""
    return page.heard("ready")[0]["controls"][0]["choices"].index(choice)


def actions(page):
    return [step["action"]["action"] for step in page.heard("step") if step["action"]]


def test_fifty_steps_by_key_show_what_the_server_sent(page):
    page.act("ArrowRight", 50)
    steps = page.heard("step")
    assert [step["t"] for step in steps] == list(range(51))
    assert actions(page) == [index(page, RIGHT)] * 50
    frames = [bytes(frame) for frame in page("() => window.frames.map(frame => [...frame])")]
    pictures = {
        frame[4]: np.asarray(Image.open(io.BytesIO(frame[7:])).convert("RGB"), int) for frame in frames[-2:]
    }
    assert int.from_bytes(frames[-1][:4], "big") == steps[-1]["n"]
    shown = {}
    for lane, name in enumerate(("real", "dream", "difference")):
        width, height, values = page.pixels(name)
        shown[name] = np.asarray(values).reshape(height, width, 4)[..., :3]
        if lane < 2:
            assert (shown[name] == pictures[lane]).all()
    error = np.abs(pictures[0] - pictures[1]).max(-1, keepdims=True) / 255
    low, high = (
        np.array([255, 255, 255]),
        np.array([0xB3, 0x22, 0x2C]),
    )  # --screen and --bad of the light style
    assert np.abs(shown["difference"] - (low + (high - low) * error)).max() <= 1
    assert error.max() > 0.5  # this dream is a bad one, and that is seen


def test_the_numbers_are_those_of_the_step(page):
    page.act("ArrowLeft", 3)
    step = page.step
    facts = {name: page.text(f"#facts-{name}").split() for name in ("real", "dream", "drift")}
    value = lambda words, name: float(words[words.index(name) + 1].replace("−", "-"))
    assert value(facts["real"], "return") == pytest.approx(step["real"]["return"], abs=0.005)
    assert value(facts["dream"], "reward") == pytest.approx(step["dream"]["reward"], abs=0.005)
    assert value(facts["dream"], "value") == pytest.approx(step["dream"]["value"], abs=0.005)
    assert value(facts["drift"], "PSNR") == pytest.approx(step["drift"]["image"]["psnr"], abs=0.05)
    assert value(facts["drift"], "surprise") == pytest.approx(step["surprise"], abs=0.005)


def test_space_plays_and_pauses(page):
    page.keyboard.press("Space")
    page.until(lambda: page.step["t"] >= 10, "ten steps")
    page.keyboard.press("Space")
    page.until(lambda: not page.state["playing"], "the pause")
    there = page.state["t"]
    page.at(there)
    page.page.wait_for_timeout(300)
    assert page.step["t"] == there
    assert page.text("#play-label") == "Play"
    assert set(actions(page)) == {index(page, NOTHING)}
    page.until(
        lambda: page.text("#fps") != "–" and int(page.text("#fps").split()[0]) > 0, "the painted pictures"
    )


def test_a_tap_between_two_steps_is_played_once_and_measured(page):
    page.slide("speed", 3)
    page.until(lambda: page.state["speed"] == 3, "the speed")
    page.page.click("#record")  # what was played, also of steps that this browser was too slow to see
    page.until(lambda: page.state["recording"], "the recording")
    page.keyboard.press("Space")
    page.until(lambda: page.step["t"] >= 1, "the first step")
    page.keyboard.press("ArrowLeft")  # down and up within a few ms
    page.until(lambda: page.said("action")[-1]["value"]["action"] == index(page, NOTHING), "the release")
    released = page.said("action")[-1]["id"]
    page.until(lambda: page.step["action_id"] == released, "a step after the tap")
    page.keyboard.press("Space")
    page.until(lambda: not page.state["playing"], "the pause")
    played = [line["action"]["action"] for line in page.film() if "action" in line]
    assert played.count(index(page, LEFT)) == 1 and played[-1] == index(page, NOTHING)
    latency = page.until(
        lambda: page.text("#latency") != "press a key" and page.text("#latency"), "the latency"
    )
    p50, p95 = (float(word) for word in latency.replace(",", "").split() if word.isdigit())
    assert 0 < p50 <= p95


def test_the_newest_of_two_keys_counts_until_it_is_released(page):
    page.act("ArrowUp")
    page.keyboard.down("ArrowLeft")
    page.at(2)
    page.keyboard.down("ArrowRight")
    page.at(3)
    assert actions(page)[1:] == [index(page, LEFT), index(page, RIGHT)]
    page.keyboard.up("ArrowRight")
    assert page.text(".act.on span") == LEFT
    page.keyboard.up("ArrowLeft")
    page.until(lambda: page.text(".act.on span") == NOTHING, "the release")


def test_rewind_makes_a_branch_and_the_old_one_is_found_again(page):
    page.act("ArrowRight", 8)
    before = page.pixels("real"), page.pixels("dream")
    page.keyboard.press(",")
    page.at(7)
    page.slide("timeline", 3, "change")
    page.at(3)
    assert page.page.is_hidden("#branches")
    page.act("ArrowLeft", 4)
    page.page.wait_for_selector(".branch >> nth=1")
    assert [(b["from"], b["at"], b["length"]) for b in page.state["branches"]][:1] == [(None, 0, 9)]
    assert page.state["branches"][1]["at"] == 3
    assert page.pixels("real") != before[0]
    page.page.click(".branch >> nth=0")
    page.at(8)
    page.until(
        lambda: (page.pixels("real"), page.pixels("dream")) == before, "the pictures of the old branch"
    )
    assert page.page.get_attribute(".branch >> nth=0", "aria-current") == "true"


def test_dragging_the_slider_shows_the_past_without_asking_the_server(page):
    page.act("ArrowRight", 5)
    before = page.pixels("real")
    page.act("ArrowRight", 5)
    sent = len(page("() => window.said"))
    page.slide("timeline", 5, "input")
    page.until(lambda: page.pixels("real") == before, "the picture of step 5")
    assert len(page("() => window.said")) == sent
    assert page.text("#time") == "5"


def test_the_picture_that_was_looked_at_last_is_the_one_that_stays(page):
    page.act("ArrowRight", 3)
    before = page.pixels("real")
    page.act("ArrowRight", 7)
    page("""() => { const slider = document.getElementById("timeline");
      for (const t of [9, 8, 7, 6, 5, 4, 3]) { slider.value = t; slider.dispatchEvent(new Event("input")); } }""")
    page.until(lambda: page.pixels("real") == before, "the picture of step 3")


def test_past_the_useful_horizon_it_says_so_until_the_dream_sees_reality(page):
    assert "Useful horizon: 12 steps" in page.text("#horizon-text")
    page.act("ArrowRight", USEFUL_HORIZON)
    assert page.text("#meter-k") == str(USEFUL_HORIZON)
    assert page.page.query_selector("#meter.past") is None
    page.act("ArrowRight")
    assert "Past the useful horizon of 12" in page.text("#horizon-text")
    assert page.text("#horizon-tag") == "past its horizon"
    page.page.wait_for_selector(".notice >> text=useful horizon")
    page.keyboard.press("a")
    page.until(lambda: page.text("#meter-k") == "0", "the anchor")
    assert "Useful horizon: 12 steps" in page.text("#horizon-text")
    assert page.step["t"] == USEFUL_HORIZON + 1


def test_the_temperature_reaches_the_dream(page):
    page.page.focus("#temperature")
    page.keyboard.press("End")
    page.until(lambda: page.state["temperature"] == 3, "the temperature")
    assert page.text("#temperature-value") == "3.0"
    page.keyboard.press("Escape")  # gives the keys back
    page.act("ArrowRight")
    assert page.step["temperature"] == 3


def test_a_ball_is_moved_by_pointing_into_the_dream(page):
    page.page.click("#edits button:has-text('Point')")
    box = page.page.locator("#canvas-dream").bounding_box()
    page.page.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + 0.75 * box["height"])
    page.until(lambda: page.said("edit"), "the edit")
    edit, told = page.heard("ready")[0]["edits"][0], page.said("edit")[0]
    assert told["name"] == edit["name"]
    wanted = [low + share * (high - low) for share, low, high in zip((0.25, 0.75), edit["low"], edit["high"])]
    assert told["value"] == pytest.approx(wanted, abs=0.02)
    page.until(lambda: len(page.heard("step")) == 2, "the edited dream")
    assert page.connection == "open"


def test_what_is_typed_wrong_ends_no_game(page):
    page.act("ArrowRight", 2)
    edits = {edit["name"]: edit for edit in page.heard("ready")[0]["edits"]}
    ball = page.page.locator("[data-edit='ball 0']")
    for box, typed in zip(ball.locator("input").all(), ("1e300", ""), strict=True):
        box.fill(typed)
    ball.locator("text=Apply").click()
    page.until(lambda: len(page.said("edit")) == 1, "the edit")
    low, high = edits["ball 0"]["low"], edits["ball 0"]["high"]
    assert page.said("edit")[0]["value"] == pytest.approx([high[0], (low[1] + high[1]) / 2])
    swap = page.page.locator("[data-edit='swap']")
    swap.locator("input").fill("400.4")
    swap.locator("text=Apply").click()
    page.page.wait_for_selector(".notice >> text=there is no segment 400: they are counted from 0 to")
    page.keyboard.press("Escape")
    page.act("ArrowRight")
    assert page.connection == "open" and len(page.heard("ready")) == 1


def test_a_recording_is_downloaded_and_played_again(page):
    page.act("ArrowRight", 2)
    page.page.click("#record")
    page.until(lambda: page.state["recording"], "the recording")
    page.act("ArrowUp", 3)
    page.act("ArrowLeft", 2)
    before = page.pixels("real"), page.pixels("dream")
    assert [line["who"] for line in page.film() if "action" in line] == ["human"] * 7
    assert "5 steps" in page.text("#recordings li .name")
    assert page.download("actions").suggested_filename.endswith(".jsonl")
    assert page.download("GIF").path().read_bytes()[:4] == b"GIF8"
    page.act("ArrowDown", 2)
    page.page.click("#recordings button")
    page.until(lambda: not page.state["playing"] and page.step["t"] == 7, "the end of the replay")
    page.at(7)
    assert (page.pixels("real"), page.pixels("dream")) == before
    page.page.wait_for_selector(".notice >> text=the recorded actions end here")


def test_an_episode_is_saved_as_a_data_set(page, game):
    page.act("ArrowRight", 6)
    page.page.click("#save")
    page.page.wait_for_selector(".notice >> text=dreamworld data info")
    data = open_dataset(game.data)
    episode = data.episode(data.episodes - 1)
    assert len(episode["reward"]) == 7
    assert episode["extra/player"].tolist() == [0] * 7  # a human


def test_a_segment_is_chosen_by_its_picture(page):
    page.page.click("#segments-load")
    page.page.wait_for_selector(".segment img")
    sizes = page("() => [...document.querySelectorAll('.segment img')].map(image => image.naturalWidth)")
    assert len(sizes) >= 2 and min(sizes) > 0
    page.page.click(".segment >> nth=1")
    page.until(lambda: page.state["segment"] == 1, "the segment")
    page.page.wait_for_selector("#players >> text=Recorded")
