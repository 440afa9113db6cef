"""What the doctor tries in processes of their own, since it can crash or hang: JAX, OpenGL, ROMs, ffmpeg."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from typing import Literal

from dreamworld import words


@dataclasses.dataclass(frozen=True)
class Check:
    """One line of the report. `state`: absent is an optional part that is not installed."""

    topic: str
    state: Literal["ok", "absent", "warning", "broken"]
    found: str
    advice: str = ""
    section: str = ""  # of docs/troubleshooting.md, where something is wrong or missing


NOT_NEEDED = "not needed: another one works"


def run_probe(code: str, timeout_s: float = 120, **environment: str) -> tuple[dict | None, str]:
    """Runs Python code that prints one JSON object; (object, "") or (None, last line of what went wrong)."""
    try:
        result = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer within {timeout_s:.0f} s"
    if result.returncode == 0 and result.stdout.strip():
        return json.loads(result.stdout.strip().splitlines()[-1]), ""
    lines = result.stderr.strip().splitlines()
    return None, lines[-1][:200] if lines else f"exit status {result.returncode}"


def installed(package: str) -> str | None:
    """The installed version of a package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


DEVICES = """
import json, jax, jax.numpy as jnp, numpy as np
x = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)
exact = x.astype(np.float64) @ x
def error(dtype):
    y = np.asarray(jnp.asarray(x, dtype) @ jnp.asarray(x, dtype), np.float64)
    return float(np.abs(y - exact).max() / np.abs(exact).max())
def describe(d):
    return {"kind": d.device_kind, "memory": (d.memory_stats() or {}).get("bytes_limit", 0)}
devices = [describe(d) for d in jax.devices()]
print(json.dumps({"backend": jax.default_backend(), "devices": devices,
                  "float32": error(jnp.float32), "bfloat16": error(jnp.bfloat16)}))
"""


def check_devices() -> list[Check]:
    """What JAX computes on, and how exactly."""
    answer, problem = run_probe(DEVICES)
    if answer is None:
        return [
            Check(
                "devices",
                "broken",
                problem,
                "reinstall JAX: pip install -U jax, or 'dreamworld[cuda]' (or [cuda12])",
            )
        ]
    kinds = [device["kind"] for device in answer["devices"]]
    memory = sum(device["memory"] for device in answer["devices"])
    found = f"{answer['backend']}: " + ", ".join(
        f"{kinds.count(kind)} x {kind}" for kind in sorted(set(kinds))
    )
    found += f", {words.size(memory)}" if memory else ""
    idle_gpu = answer["backend"] == "cpu" and nvidia_name()
    advice = f"{idle_gpu} is not used: pip install 'dreamworld[cuda]' (or [cuda12])" if idle_gpu else ""
    auto = "float32" if answer["backend"] == "cpu" else "bfloat16"
    exactness = f"float32 {answer['float32']:.0e}, bfloat16 {answer['bfloat16']:.0e}"
    precision = Check("precision", "ok", f"auto computes in {auto}; error of a matrix product: {exactness}")
    if answer["float32"] > 1e-4:
        advice_32 = (
            "float32 products are rounded (TF32); JAX_DEFAULT_MATMUL_PRECISION=highest makes them exact"
        )
        precision = dataclasses.replace(precision, state="warning", advice=advice_32)
    return [Check("devices", "warning" if idle_gpu else "ok", found, advice), precision]


def nvidia_name() -> str:
    """The NVIDIA GPUs that the driver sees, empty for none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    try:
        result = subprocess.run(
            [program, "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ", ".join(result.stdout.strip().splitlines()) if result.returncode == 0 else ""


RENDER = """
import json, time, mujoco
world = '<light pos="0 0 3"/><geom type="sphere" size=".3" rgba="1 0 0 1"/>'
model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{world}</worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 64, 64)
times = []
for _ in range(5):
    start = time.perf_counter()
    renderer.update_scene(data)
    image = renderer.render()
    times.append(time.perf_counter() - start)
print(json.dumps({"ms": 1000 * min(times), "spread": int(image.max()) - int(image.min())}))
"""


def check_rendering(backend: str, advice: str) -> list[Check]:
    """Renders a picture with MuJoCo."""
    topic = f"rendering {backend}"
    if installed("mujoco") is None:
        return [Check(topic, "absent", "mujoco is not installed", "pip install 'dreamworld[dmc]'")]
    answer, problem = run_probe(RENDER, MUJOCO_GL=backend, PYOPENGL_PLATFORM=backend)
    if answer is None:
        return [Check(topic, "warning", problem, f"for pixels of DMC: {advice}")]
    if answer["spread"] == 0:
        return [Check(topic, "warning", "pictures are of one colour", f"driver trouble; {advice}")]
    return [Check(topic, "ok", f"a 64x64 test picture takes {answer['ms']:.1f} ms")]


def one_backend_is_enough(checks: list[Check]) -> list[Check]:
    """When one OpenGL backend works, the others need no attention."""
    if not any(check.topic.startswith("rendering") and check.state == "ok" for check in checks):
        return checks
    return [
        dataclasses.replace(check, state="absent", advice=NOT_NEEDED)
        if check.topic.startswith("rendering") and check.state == "warning"
        else check
        for check in checks
    ]


ROMS = """
import json, warnings
warnings.simplefilter("ignore")
import ale_py
from ale_py import roms
ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
ale = ale_py.ALEInterface()
names = roms.get_all_rom_ids()
ale.loadROM(roms.get_rom_path("pong"))
print(json.dumps({"roms": len(names), "frame": list(ale.getScreenRGB().shape)}))
"""


def check_roms() -> list[Check]:
    """Loads a game."""
    if installed("ale-py") is None:
        return [Check("atari roms", "absent", "ale-py is not installed", "pip install 'dreamworld[atari]'")]
    answer, problem = run_probe(ROMS)
    if answer is None:
        return [
            Check(
                "atari roms",
                "warning",
                problem,
                "pip install -U --force-reinstall ale-py (it brings the ROMs)",
            )
        ]
    return [Check("atari roms", "ok", f"{answer['roms']} games; pong starts")]


ENCODER = """
import imageio_ffmpeg, json, subprocess
command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-encoders"]
text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
print(json.dumps({"version": imageio_ffmpeg.get_ffmpeg_version(), "h264": "libx264" in text}))
"""


def check_video() -> list[Check]:
    """The encoder of videos."""
    answer, problem = run_probe(ENCODER)
    if answer is None or not answer["h264"]:
        return [
            Check("video", "broken", problem or "ffmpeg without libx264", "pip install -U 'imageio[ffmpeg]'")
        ]
    return [Check("video", "ok", f"ffmpeg {answer['version']} with H.264")]
