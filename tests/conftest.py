"""Strict JAX flags, one shared compilation cache, and `--soak` for what is longer than CI allows."""

import importlib.metadata
import os
import pathlib
import shutil
import signal
import sys

import pytest

if hasattr(
    signal, "SIGHUP"
):  # under `nohup` it is ignored, and so it would be by the commands that tests start
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

sys.path.append(str(pathlib.Path(__file__).parent / "golden"))  # the golden agent, which other tests use, too
CACHE = pathlib.Path(os.environ.get("DREAMWORLD_TEST_CACHE", ".cache/xla")).resolve()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
if sys.platform == "linux":
    os.environ.setdefault("MUJOCO_GL", "egl")
# Compiling is most of a test's time: four times faster so, and results agree within the tests' tolerances.
FAST_COMPILE = "--xla_backend_optimization_level=0"
if importlib.metadata.version("jaxlib").startswith("0.10."):  # later ones abort at a flag they don't know
    FAST_COMPILE += " --xla_cpu_use_fusion_emitters=false"
if FAST_COMPILE not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FAST_COMPILE}".strip()


def pytest_addoption(parser):
    parser.addoption("--soak", action="store_true", help="run the long tests, too")
    parser.addoption("--record", action="store_true", help="write the recorded sizes of programs anew")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--soak"):
        return
    soak = [item for item in items if item.get_closest_marker("soak")]
    if soak:
        config.hook.pytest_deselected(items=soak)
        items[:] = [item for item in items if not item.get_closest_marker("soak")]


@pytest.fixture
def repo() -> pathlib.Path:
    """The root of the checkout."""
    return pathlib.Path(__file__).resolve().parent.parent


class Compiled:
    """A tiny agent of `tests/golden/golden.py` for some spaces, with its update compiled once a session."""

    def __init__(self, obs_space, act_space, **changes):
        import golden
        import jax

        self.recorded = golden.make_recorded(obs_space, act_space, **changes)
        self.update = jax.jit(self.recorded.update)

    def __getattr__(self, name):
        return getattr(self.recorded, name)

    def first(self, batch=None):
        """(state, carry, output) of one update from the start."""
        return self.update(self.state, self.initial(), self.batch if batch is None else batch)


@pytest.fixture(scope="session")
def mixed() -> Compiled:
    """An image and a vector; continuous and discrete actions: the golden agent."""
    import golden

    return Compiled(golden.OBS, golden.ACT)


@pytest.fixture(scope="session")
def vector() -> Compiled:
    """A vector observation, continuous actions."""
    from dreamworld.types import Space

    return Compiled({"vector": Space((3,), "float32")}, {"action": Space((2,), "float32")})


@pytest.fixture(scope="session")
def chromium():
    """Where Chromium is; a machine without it can't judge the page, and that is no pass."""
    found = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail("no chromium: `make browser` (apt-get install chromium) installs it", pytrace=False)
    return found


@pytest.fixture(scope="session")
def browser(chromium):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-dev-shm-usage"]  # tests may run as root, in a container
        found = playwright.chromium.launch(executable_path=chromium, args=options)
        yield found
        found.close()
