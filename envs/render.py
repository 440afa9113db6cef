"""Finds the OpenGL backend that MuJoCo renders with, before anything imports MuJoCo."""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import sys

from dreamworld.errors import UserError

BACKENDS = {
    "egl": "apt-get install libegl1 libgl1-mesa-dri",
    "osmesa": "apt-get install libosmesa6",
}  # of Linux without a display, and what brings them
OWN = {"darwin": "cgl", "win32": "wgl"}  # the default of MuJoCo elsewhere, which needs no choice
INSTALL = (
    "no OpenGL backend works here; install one: `apt-get install libegl1 libgl1-mesa-dri` (egl) or "
    "`apt-get install libosmesa6` (osmesa), or the conda packages of these libraries"
)
PROBE = """
import importlib, sys
context = importlib.import_module("mujoco." + sys.argv[1]).GLContext(64, 64)
context.make_current()
context.free()
"""


@functools.cache
def probe(backend: str) -> str:
    """Empty if a 64x64 context can be made in a fresh process, else the last line of what went wrong."""
    # A failed import leaves PyOpenGL bound to the wrong platform, hence the process of its own.
    env = {**os.environ, "MUJOCO_GL": backend, "PYOPENGL_PLATFORM": backend}
    command = [sys.executable, "-c", PROBE, backend]
    try:
        result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return "no answer within 60 s"
    if result.returncode == 0:
        return ""
    lines = result.stderr.strip().splitlines()
    return lines[-1] if lines else f"exit status {result.returncode}"


def backends() -> dict[str, str]:
    """The backends among which to choose on this system, and what installs them; none where MuJoCo has its own."""
    return {} if sys.platform in OWN else BACKENDS


def has_mujoco() -> bool:
    """Whether MuJoCo is installed."""
    return importlib.util.find_spec("mujoco") is not None


def prepare() -> None:
    """Chooses a backend before code of others is imported, which may import MuJoCo: it looks at MUJOCO_GL only then.

    Does nothing where a value is set, where there is a display, and without MuJoCo.
    """
    settled = os.environ.get("MUJOCO_GL") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if not settled and backends() and has_mujoco():
        choose_backend(pixels=False)


def choose_backend(pixels: bool) -> str:
    """Sets MUJOCO_GL for this process and its children and returns it; a value that is set is kept.

    On macOS and Windows MuJoCo's own default is left alone. Without a working backend it is "disable" if no
    pixels are needed, else a UserError says what to install.
    """
    chosen = os.environ.get("MUJOCO_GL", "").lower()
    if chosen:
        if pixels and chosen in {"disable", "disabled", "off", "false", "0"}:
            raise UserError(
                f"MUJOCO_GL={chosen} turns rendering off, but this task needs pixels; unset it or use egl"
            )
        # Children find the parent's choice here: it is not probed again unless it is one we never probed.
        if pixels and chosen in BACKENDS and os.environ.get("DREAMWORLD_GL") != chosen:
            problem = probe(chosen)
            if problem:
                raise UserError(f"MUJOCO_GL={chosen} does not work: {problem}; {INSTALL}")
            os.environ["DREAMWORLD_GL"] = chosen
        return chosen
    if not backends():
        return OWN[sys.platform]
    for backend in BACKENDS:
        if not probe(backend):
            os.environ["MUJOCO_GL"] = os.environ["DREAMWORLD_GL"] = backend
            return backend
    if pixels:
        problems = "; ".join(f"{backend}: {probe(backend)}" for backend in BACKENDS)
        raise UserError(f"{INSTALL}. ({problems})")
    os.environ["MUJOCO_GL"] = "disable"
    return "disable"
