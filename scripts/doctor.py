"""`dreamworld doctor`: checks the installation and says what to do about what is wrong.

Everything that can crash or hang (JAX devices, OpenGL, ROMs) is tried in a process of its own. Exit status 1
when something that every run needs is broken, otherwise 0.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from dreamworld import cli
from dreamworld.config import RunConfig
from dreamworld.replay.memory import available_memory

GB = 10**9


@dataclasses.dataclass(frozen=True)
class Flags:
    json: bool = False
    """Print the checks as JSON."""
    logdir: str = "~/dreamworld"
    """Folder whose disk is checked."""


@dataclasses.dataclass(frozen=True)
class Check:
    """One line of the report. `state`: absent is an optional part that is not installed."""

    topic: str
    state: Literal["ok", "absent", "warning", "broken"]
    found: str
    advice: str = ""


def main(argv: Sequence[str]) -> int:
    """Prints the report; 1 when something is broken."""
    flags = cli.parse_flags(argv, Flags(), prog="dreamworld doctor", description="Check the installation.")
    checks = examine(flags.logdir)
    if flags.json:
        print(json.dumps([dataclasses.asdict(check) for check in checks], indent=2))
    else:
        print_table(checks)
    return int(any(check.state == "broken" for check in checks))


def examine(logdir: str) -> list[Check]:
    """Runs every check; the slow ones beside each other."""
    probes: list[Callable[[], list[Check]]] = [
        check_versions,
        check_devices,
        lambda: check_rendering("egl", "apt-get install libegl1 libgl1-mesa-dri"),
        lambda: check_rendering("osmesa", "apt-get install libosmesa6"),
        check_roms,
        check_video,
        check_optional,
        check_machine,
        lambda: check_disk("disk", logdir, "--logdir", 5 * GB),
        lambda: check_disk("compilation cache", RunConfig().compile_cache, "--run.compile_cache", GB),
    ]
    with ThreadPoolExecutor(4) as pool:
        checks = [check for found in pool.map(lambda probe: probe(), probes) for check in found]
    return one_backend_is_enough(checks)


def print_table(checks: list[Check]) -> None:
    """The report for people."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = {"ok": "green", "absent": "dim", "warning": "yellow", "broken": "red"}
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("check", "state", "found", "what to do"):
        table.add_column(heading, overflow="fold")
    for check in checks:
        state = Text(check.state, style=colours[check.state])
        table.add_row(check.topic, state, Text(check.found), Text(check.advice))
    console = Console()
    console.print(table)
    wrong = [check.topic for check in checks if check.state in ("warning", "broken")]
    console.print(f"\n{len(wrong)} to look at: {', '.join(wrong)}" if wrong else "\nall is well")


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


def requirements() -> list[tuple[str, str, str]]:
    """(package, version bounds, extra) of our own metadata; extra is empty for what every run needs."""
    found: list[tuple[str, str, str]] = []
    for line in importlib.metadata.requires("dreamworld") or []:
        match = re.match(r"([\w.-]+)(?:\[[^]]*\])?\s*([^;]*)(?:;.*extra == ['\"]([\w-]+)['\"])?", line)
        assert match, line
        found.append((match[1], match[2].strip(" ()"), match[3] or ""))
    return found


def installed(package: str) -> str | None:
    """The installed version of a package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def fits(version: str, bounds: str) -> bool:
    """Whether a version is within bounds such as `>=3.17,<4`."""
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(bounds).contains(version, prereleases=True)


def check_versions() -> list[Check]:
    """Python, dreamworld, and the packages that every run needs."""
    python = platform.python_version()
    checks = [Check("python", "ok", f"{python}, {platform.system()} {platform.machine()}")]
    try:
        core = [(package, bounds) for package, bounds, extra in requirements() if not extra]
    except importlib.metadata.PackageNotFoundError:
        advice = "pip install -e . in the checkout, so that versions can be checked"
        return [*checks, Check("dreamworld", "warning", "not installed as a package", advice)]
    checks.append(Check("dreamworld", "ok", importlib.metadata.version("dreamworld")))
    good: list[str] = []
    for package, bounds in core:
        version = installed(package)
        if version and fits(version, bounds):
            good.append(f"{package} {version}")
        else:
            found = version or "not installed"
            checks.append(Check(package, "broken", found, f"pip install '{package}{bounds}'"))
    return [*checks, Check("packages", "ok", ", ".join(good))]


def check_optional() -> list[Check]:
    """The packages of each extra, with the command that installs them."""
    try:
        wanted = requirements()
    except importlib.metadata.PackageNotFoundError:
        return []
    core = {package for package, _, extra in wanted if not extra}
    extras = sorted({extra for _, _, extra in wanted} - {"", "all", "dev", "cuda"})
    return [
        check_extra(extra, [row for row in wanted if row[2] == extra and row[0] not in core])
        for extra in extras
    ]


def check_extra(extra: str, wanted: list[tuple[str, str, str]]) -> Check:
    """One extra: ok, absent, or installed in versions that do not work."""
    versions = {package: installed(package) for package, _, _ in wanted}
    advice = f"pip install 'dreamworld[{extra}]'"
    found = ", ".join(f"{package} {version or 'missing'}" for package, version in versions.items())
    if not all(versions.values()):
        state = "warning" if any(versions.values()) else "absent"
        return Check(f"extra {extra}", state, found if state == "warning" else "not installed", advice)
    wrong = [
        f"'{package}{bounds}'" for package, bounds, _ in wanted if not fits(versions[package] or "", bounds)
    ]
    if wrong:
        return Check(f"extra {extra}", "warning", found, f"pip install {' '.join(wrong)}")
    return Check(f"extra {extra}", "ok", found)


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
            Check("devices", "broken", problem, "reinstall JAX: pip install -U jax, or 'dreamworld[cuda]'")
        ]
    kinds = [device["kind"] for device in answer["devices"]]
    memory = sum(device["memory"] for device in answer["devices"])
    found = f"{answer['backend']}: " + ", ".join(
        f"{kinds.count(kind)} x {kind}" for kind in sorted(set(kinds))
    )
    found += f", {format_bytes(memory)}" if memory else ""
    idle_gpu = answer["backend"] == "cpu" and nvidia_name()
    advice = f"{idle_gpu} is not used: pip install 'dreamworld[cuda]'" if idle_gpu else ""
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
        dataclasses.replace(check, state="absent", advice="not needed: another one works")
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


def check_machine() -> list[Check]:
    """Cores, memory, and the shared memory of worker processes."""
    (memory, source), cores = available_memory(), usable_cores()
    checks = [Check("cores", "ok", f"{cores:g} usable of {os.cpu_count()}")]
    text = f"{format_bytes(memory)}, the {source}"
    advice = "a run needs about 2 GB beside replay; see replay.capacity_bytes and replay.storage"
    checks.append(
        Check("memory", "ok", text) if memory > 4 * GB else Check("memory", "warning", text, advice)
    )
    if os.path.isdir("/dev/shm"):
        shared = shutil.disk_usage("/dev/shm").free
        text = f"{format_bytes(shared)} free in /dev/shm"
        advice = (
            "worker processes pass observations through it: docker run --shm-size=1g, or env.engine inprocess"
        )
        state = "ok" if shared > 256 * 10**6 else "warning"
        checks.append(Check("shared memory", state, text, "" if state == "ok" else advice))
    return checks


def check_disk(topic: str, folder: str, option: str, enough: int) -> list[Check]:
    """Free space, and the right to write, where `folder` is or would be made."""
    path = Path(os.path.expanduser(folder)).absolute()
    existing = next(place for place in (path, *path.parents) if place.exists())
    if not os.access(existing, os.W_OK):
        return [
            Check(topic, "warning", f"{existing} can't be written to", f"choose another folder with {option}")
        ]
    free = shutil.disk_usage(existing).free
    text = f"{format_bytes(free)} free for {path}"
    if free < enough:
        return [Check(topic, "warning", text, f"make room, or choose another folder with {option}")]
    return [Check(topic, "ok", text)]


def usable_cores(quota_file: Path = Path("/sys/fs/cgroup/cpu.max")) -> float:
    """Cores that this process may use: by affinity, and by the quota of its container (`quota period`, or `max`)."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    try:
        quota, period = quota_file.read_text().split()
        return min(cores, int(quota) / int(period))
    except (OSError, ValueError):
        return cores


def format_bytes(count: float) -> str:
    """Decimal units: `512 B`, `12.3 kB`, `61.4 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv[1:]))
