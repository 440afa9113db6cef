"""What a benchmark ran on, and what it took of it: processor, caches and settings; CPU time and memory.

Every fact is left empty where the system does not tell it; nothing here fails elsewhere than on Linux.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

from dreamworld import probes, system, words

# Vector extensions that products of matrices use: as Linux and macOS name them, and as they are called.
EXTENSIONS = {
    "avx2": "avx2",
    "avx512f": "avx512f",
    "avx512_bf16": "avx512_bf16",
    "amx_tile": "amx",
    "asimd": "neon",
    "advsimd": "neon",
    "neon": "neon",
    "sve": "sve",
}


@dataclasses.dataclass(frozen=True)
class Machine:
    """The facts on which the speed of a program depends, and when they held."""

    processor: str
    family: str  # family, model and stepping of x86; implementer and part of Arm
    cores: float  # that this process may use, by its affinity and the quota of its container
    cache_bytes: dict[str, int]  # L1d, L2, L3: of each, what one core sees
    extensions: list[str]
    governor: str  # of the processor's frequency
    huge_pages: str  # the system's setting, and whether this process asked for them
    xla_flags: str
    load: list[float]  # processes that ran or waited when the measurement began: means over 1, 5, 15 minutes
    date: str
    system: str
    python: str
    jax: str
    jaxlib: str

    @property
    def last_cache_bytes(self) -> int:
        """The size of the cache next to memory, 0 where it is not known."""
        return max(self.cache_bytes.values(), default=0)


def load_average() -> list[float]:
    """Processes that run or wait, as means over 1, 5 and 15 minutes. Ask before a measurement begins."""
    try:
        return [round(value, 2) for value in os.getloadavg()]
    except (AttributeError, OSError):
        return []


def describe(load: list[float], proc: Path = Path("/proc"), sys_folder: Path = Path("/sys")) -> Machine:
    """The facts as they are now, after a measurement that set flags; `load` is from before it."""
    cpuinfo, settings = read_cpuinfo(_read(proc / "cpuinfo")), read_sysctl()
    cpu = sys_folder / "devices/system/cpu" / f"cpu{system.cores()[0]}"
    cores = usable_cores()
    return Machine(
        processor=processor_name(cpuinfo, settings),
        family=processor_family(cpuinfo, settings),
        cores=int(cores) if cores.is_integer() else cores,
        cache_bytes=read_caches(cpu / "cache") or sysctl_caches(settings),
        extensions=vector_extensions(cpuinfo, settings),
        governor=_read(cpu / "cpufreq/scaling_governor"),
        huge_pages=huge_pages(
            _read(sys_folder / "kernel/mm/transparent_hugepage/enabled"), _read(proc / "self/environ")
        ),
        xla_flags=os.environ.get("XLA_FLAGS", ""),
        load=load,
        date=time.strftime("%Y-%m-%d %H:%M"),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        jax=probes.installed("jax") or "",
        jaxlib=probes.installed("jaxlib") or "",
    )


def processor_line(found: Machine) -> str:
    """The processor and the settings of the system that its speed depends on."""
    caches = [f"{name} {words.binary_size(size)}" for name, size in found.cache_bytes.items()]
    name = f"{found.processor} ({found.family})" if found.family else found.processor
    parts = [f"{words.count(found.cores, 'core')} of {name}", *caches, " ".join(found.extensions)]
    parts += [f"governor {found.governor}"] if found.governor else []
    parts += [f"huge pages {found.huge_pages}"] if found.huge_pages else []
    return ", ".join(filter(None, parts))


def run_line(found: Machine) -> str:
    """Versions, flags, and what else the machine did."""
    load = " ".join(f"{value:g}" for value in found.load) or "not known"
    flags = found.xla_flags or "none"
    versions = f"JAX {found.jax}, jaxlib {found.jaxlib}, Python {found.python}, {found.system}"
    return f"{found.date}, load at the start {load}, XLA_FLAGS {flags}; {versions}"


def usable_cores(quota_file: Path = Path("/sys/fs/cgroup/cpu.max")) -> float:
    """Cores that this process may use: by affinity, and by the quota of its container."""
    cores = float(len(system.cores()))
    try:
        quota, period = quota_file.read_text().split()
        return min(cores, int(quota) / int(period))
    except (OSError, ValueError):
        return cores


def read_cpuinfo(text: str) -> dict[str, str]:
    """The fields of the first processor in /proc/cpuinfo."""
    lines = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}


def read_sysctl(text: str | None = None) -> dict[str, str]:
    """What macOS says of its hardware, `key: value` per line; empty on other systems."""
    if text is None:
        if sys.platform != "darwin":
            return {}
        command = ["/usr/sbin/sysctl", "hw", "machdep.cpu"]
        try:
            text = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout
        except (OSError, subprocess.TimeoutExpired):
            return {}
    lines = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}


def processor_name(cpuinfo: dict[str, str], settings: dict[str, str]) -> str:
    """The name that the maker gave it, or the architecture."""
    named = cpuinfo.get("model name") or settings.get("machdep.cpu.brand_string")
    return named or platform.processor() or platform.machine()


def processor_family(cpuinfo: dict[str, str], settings: dict[str, str]) -> str:
    """What tells kinds of processors apart whose names do not."""
    if "CPU implementer" in cpuinfo:
        return f"implementer {cpuinfo['CPU implementer']} part {cpuinfo.get('CPU part', '?')}"
    x86 = {name: f"machdep.cpu.{name}" for name in ("family", "model", "stepping")}
    found = {name: settings[key] for name, key in x86.items() if key in settings}
    for name, key in (("family", "cpu family"), ("model", "model"), ("stepping", "stepping")):
        if key in cpuinfo:
            found[name] = cpuinfo[key]
    return " ".join(f"{name} {value}" for name, value in found.items())


def vector_extensions(cpuinfo: dict[str, str], settings: dict[str, str]) -> list[str]:
    """Those of EXTENSIONS that the processor has."""
    flags = f"{cpuinfo.get('flags', '')} {cpuinfo.get('Features', '')}"
    flags += f" {settings.get('machdep.cpu.features', '')} {settings.get('machdep.cpu.leaf7_features', '')}"
    given = set(flags.lower().split())
    given |= {key.rpartition(".")[2].lower() for key, value in settings.items() if value == "1"}
    return list(dict.fromkeys(name for flag, name in EXTENSIONS.items() if flag in given))


def read_caches(folder: Path) -> dict[str, int]:
    """Bytes of the caches that one core sees, from Linux's folder of them; without those of instructions."""
    found = {}
    for index in sorted(folder.glob("index*")):
        level, kind, size = (_read(index / name) for name in ("level", "type", "size"))
        number = re.fullmatch(r"(\d+)([KMG]?)", size)
        if level and number and kind != "Instruction":
            scale = 1024 ** " KMG".index(number.group(2) or " ")
            found[f"L{level}{'d' if kind == 'Data' else ''}"] = int(number.group(1)) * scale
    return found


def sysctl_caches(settings: dict[str, str]) -> dict[str, int]:
    """The same from macOS; of the fast cores, where cores differ."""
    found = {}
    for name, key in (("L1d", "l1dcachesize"), ("L2", "l2cachesize"), ("L3", "l3cachesize")):
        size = settings.get(f"hw.perflevel0.{key}") or settings.get(f"hw.{key}") or ""
        if size.isdigit() and int(size):
            found[name] = int(size)
    return found


def huge_pages(setting: str, environment: str) -> str:
    """The choice of Linux, such as `madvise`, and whether the C library was told to ask when this process started."""
    chosen = re.search(r"\[(\w+)\]", setting)
    asked = re.search(r"glibc\.malloc\.hugetlb=[1-9]", environment)
    return f"{chosen.group(1)}{', asked for' if asked else ''}" if chosen else ""


def cpu_seconds() -> float:
    """CPU time of this process and its descendants so far."""
    import psutil

    total = 0.0
    this = psutil.Process()
    for process in [this, *this.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def resident_mb() -> float:
    """Memory of this process and its descendants, in MB."""
    import psutil

    this = psutil.Process()
    return sum(process.memory_info().rss for process in [this, *this.children(recursive=True)]) / 1e6


def _read(path: Path) -> str:
    """The text of a small file of the system, empty where there is none."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
