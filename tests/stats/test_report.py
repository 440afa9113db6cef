"""The files that a report leaves, and its command line."""

import csv
import html.parser
import io
import resource
import subprocess
import sys
import time

import numpy as np
import pytest

from dreamworld.errors import UserError
from dreamworld.scripts import report as command
from dreamworld.stats import aggregate
from dreamworld.stats.analysis import analyse
from dreamworld.stats.export import csv_files
from dreamworld.stats.groups import collect, split_label
from dreamworld.stats.report import report


def two_methods(make_run):
    for seed in range(3):
        for method, top in (("ours", 900), ("theirs", 700)):
            for task in ("dmc_walker_walk", "dmc_cheetah_run"):
                scores = [(frames, top * frames / 490_000 + seed) for frames in range(7000, 490_001, 7000)]
                make_run(f"{method}/{task}/{seed}", task, seed, scores)
    make_run("ours/x <b>&/0", "gym_A<b>&\"'", 0, [(1000, 1.0)])


class Page(html.parser.HTMLParser):
    """Collects what a page would fetch, and its tags."""

    def __init__(self):
        super().__init__()
        self.fetched, self.count, self.text = [], {}, ""

    def handle_starttag(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "data") and not (value or "").startswith(
                ("#", "data:")
            ):
                self.fetched.append((tag, value))

    def handle_data(self, data):
        self.text += data


def test_the_root_of_the_file_system_has_a_label():
    assert split_label("/")[0] == "/"


def test_a_folder_whose_name_holds_an_equals_sign_is_that_folder(make_run, tmp_path, monkeypatch):
    make_run("lr=0.1/0", "gym_A", 0, [(1000, 1.0)])
    monkeypatch.chdir(tmp_path)
    _, page = report(["lr=0.1"])
    assert page.resolve() == (tmp_path / "lr=0.1" / "statistics" / "report.html").resolve()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lr=0.1"]
    _, page = report(["mine=lr=0.1"])
    assert page.resolve().parent == (tmp_path / "lr=0.1" / "statistics").resolve()


def test_report_leaves_page_pictures_and_tables(make_run, tmp_path):
    two_methods(make_run)
    arguments = [str(tmp_path / "ours"), str(tmp_path / "theirs"), "--baseline", "published"]
    assert command.main([*arguments, "--out", str(tmp_path / "out")]) == 0
    out = tmp_path / "out"
    source = (out / "report.html").read_text()
    page = Page()
    page.feed(source)
    assert not page.fetched and "http" not in source and "@import" not in source and "url(http" not in source
    assert "script" not in page.count and page.count["svg"] >= 7
    assert "prefers-color-scheme: dark" in source and 'name="viewport"' in source and "currentColor" in source
    assert "<b>&" not in source and "gym_A<b>&" in page.text  # names are escaped
    names = {path.name for path in out.rglob("*") if path.is_file()}
    for name in ("curves", "aggregates_dmc", "profiles_dmc", "efficiency_dmc", "improvement_dmc"):
        assert {f"{name}.png", f"{name}.svg"} <= names
    assert (out / "plots" / "curves.png").read_bytes()[:4] == b"\x89PNG"
    rows = list(csv.DictReader((out / "runs.csv").open()))
    assert len(rows) == 13 and all(row["counted"] == "yes" for row in rows)
    markdown = (out / "report.md").read_text()
    assert "| task | frames | method |" in markdown and "What" not in markdown.splitlines()[0]


def test_csv_scores_equal_a_plain_recomputation_from_the_files(make_run, tmp_path):
    two_methods(make_run)
    files = csv_files(analyse(collect([str(tmp_path / "ours"), str(tmp_path / "theirs")])))
    rows = list(csv.DictReader(io.StringIO(files["aggregates.csv"])))
    found = {(row["method"], row["statistic"]): float(row["value"]) for row in rows}
    # Episodes every 7000 frames: the last 5% of 490k (24.5k) hold 469k, 476k, 483k, 490k.
    ends = np.array([469_000, 476_000, 483_000, 490_000])
    expected = np.mean([np.mean(900 * ends / 490_000 + seed) / 1000 for seed in range(3)])
    assert found["ours", "mean"] == pytest.approx(expected) == pytest.approx(found["ours", "median"])
    better = list(csv.DictReader(io.StringIO(files["improvement.csv"])))
    assert float(better[0]["probability_x_above_y"]) == 1.0


def test_default_folder_and_replacing_an_older_report(make_run, tmp_path):
    make_run("a/0")
    _, first = report([str(tmp_path / "a")])
    assert first == tmp_path / "a" / "statistics" / "report.html"
    make_run("a/1", seed=1)
    analysis, _ = report([str(tmp_path / "a")])
    assert len(analysis.groups[0].runs) == 2 and "2 runs" in first.read_text()


def test_other_files_are_never_written_among(make_run, tmp_path):
    make_run("a/0")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("precious")
    with pytest.raises(UserError, match="holds other files"):
        report([str(tmp_path / "a")], out=tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "which runs"),
        (["DIR", "--baseline", "mine"], "one of"),
        (["DIR", "--resample", "3"], "did you mean --resamples"),
        (["DIR", "--resamples", "3"], "at least 100"),
        (["nowhere"], "not a directory"),
    ],
)
def test_bad_input_is_one_line(make_run, tmp_path, arguments, message):
    folder = make_run("a/0")
    with pytest.raises(UserError, match=message):
        command.main([str(folder) if word == "DIR" else word for word in arguments])
    assert not (folder / "statistics").exists()


def test_single_run_and_single_episode_can_be_reported(make_run):
    folder = make_run("a/0")
    assert command.main([str(folder)]) == 0
    assert (folder / "statistics" / "plots" / "curves.png").exists()


def test_bootstrap_of_26_tasks_takes_at_most_seconds():
    scores = list(np.random.default_rng(0).normal(size=(26, 5)))
    start = time.process_time()
    aggregate.estimate(scores)
    aggregate.performance_profile(scores, np.linspace(0, 2, 101))
    aggregate.probability_of_improvement(scores, scores)
    assert time.process_time() - start < 3


def test_reporting_loads_no_jax(make_run):
    folder = make_run("a/0")
    code = (
        "import sys; from dreamworld.scripts import report; report.main(sys.argv[1:]); "
        "sys.exit(bool({'jax', 'flax', 'pandas', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True).returncode == 0


def test_a_report_that_cannot_be_written_is_one_line_and_the_next_one_works(make_run, tmp_path):
    make_run("runs/0", "gym_A", 0, [(1000, 1.0)])
    folder = tmp_path / "runs"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, hard))
    try:
        with pytest.raises(
            UserError, match=r"the report can't be written to .*statistics .*too large.*--out"
        ):
            report([str(folder)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in folder.iterdir()] == ["0"]
    _, page = report([str(folder)])
    assert page.stat().st_size > 1000


def test_a_report_that_cannot_be_replaced_leaves_the_older_one(make_run, tmp_path):
    make_run("runs/0", "gym_A", 0, [(1000, 1.0)])
    _, page = report([str(tmp_path / "runs")])
    content = lambda: {path: path.read_bytes() for path in page.parent.rglob("*") if path.is_file()}
    older = content()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, hard))
    try:
        with pytest.raises(UserError, match="can't be written"):
            report([str(tmp_path / "runs")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert content() == older


def test_a_folder_with_what_a_killed_report_left_is_taken(make_run, tmp_path):
    make_run("runs/0", "gym_A", 0, [(1000, 1.0)])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".report.html.123").write_text("ha")
    report([str(tmp_path / "runs")], out=tmp_path / "out")


def test_a_folder_of_the_report_that_is_a_link_to_nothing_is_named(make_run, tmp_path):
    make_run("runs/0", "gym_A", 0, [(1000, 1.0)])
    (tmp_path / "out").symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match=r"can't be written to .*/out "):
        report([str(tmp_path / "runs")], out=tmp_path / "out")
