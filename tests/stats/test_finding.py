"""Which folders are runs: everything else is looked into, and hides nothing."""

import pytest

from dreamworld.errors import UserError
from dreamworld.stats.finding import find_folders, find_runs
from dreamworld.stats.groups import collect
from dreamworld.sweep.status import rows

HYDRA = "defaults: [base]\nmodel: resnet\n"
ANCHORS = "a: &a [1]\nb: *a\n"  # no config of ours, and perhaps one of another program


def test_finds_runs_but_nothing_inside_them(make_run, tmp_path):
    first, second = make_run("x/a"), make_run("x/b/c")
    (first / "inner").mkdir()
    (first / "inner" / "config.yaml").write_text("task: a")
    assert find_runs(tmp_path / "x") == [first, second]


def test_a_folder_that_is_none_is_named(tmp_path):
    with pytest.raises(UserError, match="is not a directory"):
        find_runs(tmp_path / "absent")


@pytest.mark.parametrize(
    "files",
    [{"config.yaml": HYDRA}, {"config.yaml": ANCHORS}, {"config.yaml": ""}, {"status.json": "{}"}],
    ids=str,
)
@pytest.mark.parametrize("beside", [(), ("checkpoints",)], ids=str)
def test_the_files_of_another_program_hide_no_run_below(make_run, tmp_path, files, beside):
    run = make_run("project/outputs/a")
    for name, content in files.items():
        (tmp_path / "project" / name).write_text(content)
    for name in beside:
        (tmp_path / "project" / name).mkdir()
    assert find_runs(tmp_path / "project") == [run]
    assert [row.run for row in rows(tmp_path / "project")] == ["outputs/a"]
    (group,) = collect([str(tmp_path / "project")])
    assert [found.path for found in group.runs] == [run]


@pytest.mark.parametrize("name", ["eval", "report", "checkpoints", "replay", "statistics", "tensorboard"])
def test_folders_of_any_name_are_looked_into(make_run, tmp_path, name):
    run = make_run(f"{name}/a")
    assert find_runs(tmp_path) == [run]


@pytest.mark.parametrize("files", [{"config.yaml": HYDRA}, {"status.json": "{}"}], ids=str)
def test_a_folder_of_another_program_alone_is_no_run(tmp_path, files):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert find_runs(tmp_path) == [] and len(find_folders(tmp_path).others) == ("config.yaml" in files)
    with pytest.raises(UserError, match="holds no runs"):
        rows(tmp_path)
    with pytest.raises(UserError, match="holds no runs"):
        collect([str(tmp_path)])


@pytest.mark.parametrize(
    "files",
    [
        {"config.yaml": "task: x\nseed: 0\n"},
        {"config.yaml": "", "spaces.json": "{}"},
        {"config.yaml": "a: [", "status.json": ""},
        {"status.json": '{"state": "running"}'},
        {"config.yaml": "a: ["},
        {"status.json": "["},
    ],
    ids=str,
)
def test_a_run_is_one_with_what_is_left_of_its_files(tmp_path, files):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert find_runs(tmp_path) == [tmp_path]
