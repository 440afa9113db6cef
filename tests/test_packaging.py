"""Wheel and sdist hold real files, and an installed wheel answers."""

import email
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import pytest
import yaml


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(wheel, sdist) of the checkout; the wheel is built from the sdist."""
    import pathlib

    root = pathlib.Path(__file__).resolve().parent.parent
    source, out = tmp_path_factory.mktemp("source") / "checkout", tmp_path_factory.mktemp("dist")
    skipped = shutil.ignore_patterns(
        ".*", "build", "dist", "*.egg-info", "__pycache__", "tests", "docs", "runs"
    )
    shutil.copytree(root, source, symlinks=True, ignore=skipped)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return next(out.glob("*.whl")), next(out.glob("*.tar.gz"))


def test_the_wheel_holds_every_source_and_preset(built, repo):
    with zipfile.ZipFile(built[0]) as wheel:
        held = {name: wheel.read(name) for name in wheel.namelist()}
    folders = ("agents", "envs", "scripts", "configs", "dreamworld")
    wanted = {
        f"dreamworld/{file.relative_to(repo)}".replace("dreamworld/dreamworld", "dreamworld"): file
        for folder in folders
        for file in (repo / folder).rglob("*")  # which follows no links
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert {name.partition("/")[2].partition("/")[0] for name in wanted} >= {
        *folders[:4],
        "py.typed",
        "play",
        "data",
    }
    for name, file in wanted.items():
        assert held[name] == file.read_bytes()
    assert {name for name in held if ".dist-info/" not in name} == set(wanted), "something else is in it"


def test_the_wheel_holds_no_tool_of_developers(built, repo):
    with zipfile.ZipFile(built[0]) as wheel:
        held = wheel.namelist()
    for tool in (repo / "tests" / "golden" / "golden.py", repo / "tests" / "soak.py"):
        assert tool.is_file() and not [name for name in held if name.endswith(f"/{tool.name}")]


def test_the_wheel_holds_no_link(built):
    with zipfile.ZipFile(built[0]) as wheel:
        modes = {item.filename: item.external_attr >> 16 for item in wheel.infolist()}
    assert not [name for name, mode in modes.items() if stat.S_ISLNK(mode)]


def test_the_sdist_holds_the_sources(built):
    with tarfile.open(built[1]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"pyproject.toml", "LICENSE", "README.md", "dreamworld/config.py"} <= names
    assert any(name.endswith("configs/size1m.yaml") for name in names)


def test_an_unpacked_wheel_answers_from_anywhere(built, tmp_path):
    with zipfile.ZipFile(built[0]) as wheel:
        wheel.extractall(tmp_path / "site")
    code = "import dreamworld.__main__ as m, dreamworld.presets as p; print(m.__file__, p.preset_names())"
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert str(tmp_path) in result.stdout and "size400m" in result.stdout, result.stderr


def test_every_extra_is_in_the_metadata_and_readme_is_the_long_description(built, repo):
    with zipfile.ZipFile(built[0]) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(wheel.read(name))
    project = tomllib.loads((repo / "pyproject.toml").read_text())["project"]
    assert set(metadata.get_all("Provides-Extra", [])) == set(project["optional-dependencies"])
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload(decode=True) == (repo / "README.md").read_bytes()


def test_only_those_versions_of_python_are_claimed_that_ci_tries(repo):
    claimed = {
        line.rpartition(" ")[2]
        for line in tomllib.loads((repo / "pyproject.toml").read_text())["project"]["classifiers"]
        if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", line)
    }
    steps = "".join((repo / ".ci" / name).read_text() for name in ("run", "core"))
    steps += (repo / ".github" / "workflows" / "ci.yml").read_text()
    assert claimed and all(f"python{version}" in steps or f'"{version}"' in steps for version in claimed)
    about = (repo / "docs" / "installation.md").read_text()
    assert all(re.search(rf"^\| .*\b{re.escape(version)}\b", about, re.MULTILINE) for version in claimed)


def test_the_image_holds_what_the_package_is_built_from(repo):
    lines = re.findall(r"^COPY (.*) /opt/dreamworld/(.*)$", (repo / "Dockerfile").read_text(), re.MULTILINE)
    copied = {name for names, _ in lines for name in names.split()}
    assert all(names == folder or not folder for names, folder in lines), "a folder would get another name"
    core = re.search(r"cp -R (.*) \"\$place/source\"", (repo / ".ci" / "core").read_text())
    assert core and copied == set(core[1].split()) and all((repo / name).exists() for name in copied)
    ignored = (repo / ".dockerignore").read_text().split()
    assert not copied & set(ignored)


def test_the_citation_is_of_this_version(repo):
    cited = yaml.safe_load((repo / "CITATION.cff").read_text())
    project = tomllib.loads((repo / "pyproject.toml").read_text())["project"]
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])
    readme = (repo / "README.md").read_text()
    (paper,) = cited["references"]
    assert paper["title"] in readme and paper["url"] in readme and "(CITATION.cff)" in readme


def test_the_project_is_described(repo):
    project = tomllib.loads((repo / "pyproject.toml").read_text())["project"]
    assert project["name"] == "dreamworld" and project["requires-python"] == ">=3.11"
    assert {"atari", "dmc", "crafter", "dev", "all"} <= set(project["optional-dependencies"])
    assert "mujoco>=3.17,<4" in project["optional-dependencies"]["dmc"]
    assert project["license"] == "Apache-2.0" and "Apache License" in (repo / "LICENSE").read_text()[:200]
