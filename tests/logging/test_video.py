"""Pictures say what they should: rows, borders, sizes, and files that play."""

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from dreamworld.logging import video


def images(batch=2, steps=6, height=16, width=24, channels=3):
    return np.random.default_rng(0).uniform(size=(batch, steps, height, width, channels)).astype(np.float32)


def cells(frame, count, rows=3):
    """Inner pixels of each cell [rows][count] of a sheet, and its border colour, found by the layout."""
    left, top, gap, border = 44, 20, 4, 3
    height = (frame.shape[0] - top) // rows - gap
    width = (frame.shape[1] - left) // count - gap
    for row in range(rows):
        for column in range(count):
            y, x = top + row * (height + gap), left + column * (width + gap)
            cell = frame[y : y + height, x : x + width]
            yield row, column, tuple(cell[0, 0]), cell[border:-border, border:-border]


def test_a_video_shows_truth_dream_and_error_of_every_step():
    truth = images()
    dream = np.clip(truth + 0.25, 0, 1)
    frames = video.draw_video(truth, dream, context=2)
    assert frames.dtype == np.uint8 and len(frames) == 6
    for t, frame in enumerate(frames):
        for row, column, border, inner in cells(frame, 2):
            assert border == (video.CONTEXT if t < 2 else video.DREAM)
            sources = (truth, dream, (dream - truth + 1) / 2)
            wanted = (sources[row][column, t] * 255).round().astype(np.uint8)
            np.testing.assert_array_equal(inner[4::8, 4::8], wanted)  # upscaled 8 times: 16 to 128


def test_equal_truth_and_dream_have_a_gray_error():
    truth = images()
    for row, _, _, inner in cells(video.draw_video(truth, truth, 1)[0], 2):
        if row == 2:
            assert (inner == 128).all()


def test_a_video_shows_at_most_six_sequences():
    assert (
        video.draw_video(images(9, 2), images(9, 2), 1).shape
        == video.draw_video(images(6, 2), images(6, 2), 1).shape
    )


@pytest.mark.parametrize(("size", "shown"), [(8, 128), (64, 128), (96, 96), (100, 100), (300, 300)])
def test_small_pictures_are_enlarged_by_whole_pixels(size, shown):
    picture = video.upscale(np.arange(size * size * 3).reshape(size, size, 3))
    assert picture.shape == (shown, shown, 3)
    assert (
        picture[:: shown // size, :: shown // size] == np.arange(size * size * 3).reshape(size, size, 3)
    ).all()


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_channels_are_shown_as_gray(channels):
    truth = images(channels=channels)
    _, _, _, inner = next(cells(video.draw_video(truth, truth, 1)[0], 2))
    assert (inner[..., 0] == inner[..., 2]).all()
    np.testing.assert_allclose(inner[4::8, 4::8, 0], truth[0, 0].mean(-1) * 255, atol=1)


def test_a_strip_runs_from_the_first_to_the_last_step():
    truth = images(1, 30)[0]
    shown = list(cells(video.draw_strip(truth, truth, context=10), 12))
    assert [border for row, _, border, _ in shown if row == 0] == [video.CONTEXT] * 4 + [video.DREAM] * 8
    first, last = shown[0][3], shown[11][3]
    np.testing.assert_allclose(first[4::8, 4::8], truth[0] * 255, atol=1)
    np.testing.assert_allclose(last[4::8, 4::8], truth[-1] * 255, atol=1)


def test_the_start_of_an_episode_is_a_red_left_border():
    truth, first = images(2, 30), np.zeros((2, 30), bool)
    first[0, [0, 20]] = first[1, 5] = True
    frames = video.draw_video(truth, truth, 10, first=first)
    for t in (0, 5, 6, 20):
        for _, column, border, _ in cells(frames[t], 2):
            assert (border == video.START) == first[column, t]
    strip = video.draw_strip(truth[0], truth[0], 10, first=first[0])
    shown = [round(29 * column / 11) for column in range(12)]  # 0, 3, 5, 8, ..., 18, 21, ...
    for _, column, border, inner in cells(strip, 12):
        assert (border == video.START) == (shown[column] in (0, 21))
        np.testing.assert_allclose(
            inner[4::8, 4::8], truth[0, shown[column]] * 255, atol=128 if _ == 2 else 1
        )


def test_a_report_marks_the_starts_that_it_knows():
    report = {"truth/b": images(1, 4), "dream/b": images(1, 4), "is_first": np.array([[0, 0, 1, 0]], bool)}
    (picture,) = video.draw_report(report, 2)
    borders = [border for row, _, border, _ in cells(picture.still, 4) if row == 0]
    assert borders == [video.CONTEXT, video.CONTEXT, video.START, video.DREAM]
    assert picture.frames is not None
    assert [tuple(frame[22, 45]) for frame in picture.frames] == borders


def test_a_strip_of_a_short_sequence_repeats_nothing():
    truth = images(1, 4)[0]
    assert len(list(cells(video.draw_strip(truth, truth, 1), 4))) == 12


def test_drawing_leaves_pyplot_alone():
    import subprocess
    import sys

    code = """
import sys, numpy as np
from dreamworld.logging import traces
traces.draw_traces(np.zeros((1, 5, 2)), np.zeros((1, 5, 2)), 2, title="x")
print("matplotlib.pyplot" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "False\n", result.stderr


def test_a_report_gives_a_picture_for_every_pair():
    vector = np.zeros((2, 5, 3), np.float32)
    report = {"truth/b": images(2, 5), "dream/b": images(2, 5), "truth/a": vector, "dream/a": vector}
    report |= {
        "truth/scalar": vector[..., 0],
        "dream/scalar": vector[..., 0],
        "truth/alone": vector,
        "loss": 1.0,
    }
    pictures = video.draw_report(report, 2)
    assert [(picture.name, picture.frames is None) for picture in pictures] == [
        ("openloop_a", True),
        ("openloop_b", False),
        ("openloop_scalar", True),
    ]


def test_what_a_probe_decoded_is_labelled(monkeypatch):
    from matplotlib.axes import Axes
    from PIL import ImageDraw

    words, original, titles = [], ImageDraw.ImageDraw.text, []
    monkeypatch.setattr(
        ImageDraw.ImageDraw,
        "text",
        lambda self, place, text, **style: words.append(text) or original(self, place, text, **style),
    )
    monkeypatch.setattr(Axes, "set_title", lambda self, text, **style: titles.append(text))
    vector = np.zeros((2, 5, 1), np.float32)
    report = {"truth/b": images(2, 5), "probe/b": images(2, 5), "truth/a": vector, "probe/a": vector}
    assert [picture.name for picture in video.draw_report(report, 2)] == ["probe_a", "probe_b"]
    assert "probe" in words and words.count("probe") == words.count("truth") and titles == ["probe: a[0]"]
    assert "dream" not in words


def test_unequal_shapes_are_named():
    with pytest.raises(ValueError, match=r"report of x: truth has shape \(1, 2, 3\), dream \(1, 2, 4\)"):
        video.draw_report({"truth/x": np.zeros((1, 2, 3)), "dream/x": np.zeros((1, 2, 4))}, 1)


def moving(height, width, steps=12):
    frames = np.zeros((steps, height, width, 3), np.uint8)
    for t in range(steps):
        frames[t, : height // 2, : (t + 1) * width // steps] = (250, 120, 30)
    return frames


@pytest.mark.parametrize("size", [(64, 64), (33, 47)])
def test_an_mp4_plays_back_what_was_written(size, tmp_path):
    frames = moving(*size)
    path = video.save_mp4(tmp_path / "new" / "x.mp4", frames, fps=12)
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    width, height = meta["size"]
    assert (height, width) == (size[0] + size[0] % 2, size[1] + size[1] % 2)
    assert meta["fps"] == 12
    played = np.stack([np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader])
    assert len(played) == len(frames)
    error = np.abs(played[:, : size[0], : size[1]].astype(int) - frames)
    assert error.mean() < 6


def test_a_gif_plays_back_what_was_written(tmp_path):
    frames = moving(32, 32)
    path = video.save_gif(tmp_path / "x.gif", frames, fps=10)
    with Image.open(path) as image:
        assert (
            getattr(image, "n_frames", 1) == len(frames)
            and image.info["loop"] == 0
            and image.info["duration"] == 100
        )
        image.seek(5)
        np.testing.assert_allclose(np.asarray(image.convert("RGB")).astype(int), frames[5], atol=8)


def test_a_broken_encoding_says_what_ffmpeg_said(tmp_path):
    (tmp_path / "x.mp4").mkdir()
    with pytest.raises(RuntimeError, match="ffmpeg could not write"):
        video.save_mp4(tmp_path / "x.mp4", moving(8, 8), 10)
