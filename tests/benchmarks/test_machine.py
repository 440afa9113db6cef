"""The facts of a machine: read from real files of other systems, left empty where there are none, printed briefly."""

import dataclasses
import json
import os

import pytest

from dreamworld.benchmarks import machine, printing

XEON = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8481C
stepping\t: 8
flags\t\t: fpu avx avx2 avx512f avx512_bf16 amx_bf16 amx_tile amx_int8

processor\t: 1
cpu family\t: 7
"""
GRAVITON = """processor\t: 0
BogoMIPS\t: 2100.00
Features\t: fp asimd evtstrm aes sve
CPU implementer\t: 0x41
CPU part\t: 0xd40
"""
APPLE = """hw.ncpu: 8
hw.perflevel0.l1dcachesize: 131072
hw.perflevel0.l2cachesize: 12582912
hw.l1dcachesize: 65536
hw.l2cachesize: 4194304
hw.optional.neon: 1
hw.optional.avx2_0: 0
machdep.cpu.brand_string: Apple M1
"""


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_linux_tells_everything(tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--a=1")
    core = f"devices/system/cpu/cpu{min(os.sched_getaffinity(0))}"
    caches = [
        ("1", "Data", "48K"),
        ("1", "Instruction", "32K"),
        ("2", "Unified", "2048K"),
        ("3", "Unified", "105M"),
    ]
    files = {f"{core}/cpufreq/scaling_governor": "performance\n"}
    for index, entry in enumerate(caches):
        names = zip(("level", "type", "size"), entry)
        files |= {f"{core}/cache/index{index}/{name}": f"{text}\n" for name, text in names}
    files["kernel/mm/transparent_hugepage/enabled"] = "always [madvise] never\n"
    write(tmp_path / "sys", files)
    write(
        tmp_path / "proc", {"cpuinfo": XEON, "self/environ": "A=b\0GLIBC_TUNABLES=glibc.malloc.hugetlb=1\0"}
    )
    found = machine.describe([0.5, 0.25, 0.0], tmp_path / "proc", tmp_path / "sys")
    assert found.processor == "Intel(R) Xeon(R) Platinum 8481C"
    assert found.family == "family 6 model 143 stepping 8"
    assert found.cache_bytes == {"L1d": 48 << 10, "L2": 2 << 20, "L3": 105 << 20}
    assert found.last_cache_bytes == 105 << 20
    assert found.extensions == ["avx2", "avx512f", "avx512_bf16", "amx"]
    assert (found.governor, found.huge_pages) == ("performance", "madvise, asked for")
    assert (found.xla_flags, found.load) == ("--a=1", [0.5, 0.25, 0.0])
    line = machine.processor_line(found)
    for text in (
        "core",
        "Platinum 8481C (family 6 model 143",
        "L1d 48 KiB, L2 2 MiB, L3 105 MiB",
        "performance",
    ):
        assert text in line
    assert "load at the start 0.5 0.25 0" in machine.run_line(found) and "--a=1" in machine.run_line(found)


def test_a_system_without_these_files_leaves_them_empty(tmp_path):
    found = machine.describe([], tmp_path, tmp_path)
    empty = (found.family, found.cache_bytes, found.extensions, found.governor, found.huge_pages)
    assert empty == ("", {}, [], "", "") and found.last_cache_bytes == 0
    assert found.processor and found.cores >= 0.1 and found.jax and found.jaxlib
    assert "load at the start not known" in machine.run_line(found)
    assert ", ," not in machine.processor_line(found)


def test_arm_has_implementer_and_part():
    found = machine.read_cpuinfo(GRAVITON)
    assert machine.processor_family(found, {}) == "implementer 0x41 part 0xd40"
    assert machine.vector_extensions(found, {}) == ["neon", "sve"]


def test_macos_tells_of_its_fast_cores():
    settings = machine.read_sysctl(APPLE)
    assert machine.processor_name({}, settings) == "Apple M1"
    assert machine.sysctl_caches(settings) == {"L1d": 131072, "L2": 12582912}
    assert machine.vector_extensions({}, settings) == ["neon"]


@pytest.mark.parametrize(
    ("setting", "environment", "said"),
    [
        ("[always] madvise never", "", "always"),
        ("always [madvise] never", "GLIBC_TUNABLES=glibc.malloc.hugetlb=0", "madvise"),
        ("", "GLIBC_TUNABLES=glibc.malloc.hugetlb=1", ""),
    ],
)
def test_huge_pages_are_the_setting_and_the_wish(setting, environment, said):
    assert machine.huge_pages(setting, environment) == said


def test_the_json_line_holds_the_machine_and_the_table_two_lines_of_it(capsys):
    row = {"seconds": 1.5, "parts": {"one": {"s": 1, "gflop": 10.25}, "another": {"s": 100, "gflop": 2}}}
    load = machine.load_average()
    printing.print_row(row, load, as_json=True)
    printed = json.loads(capsys.readouterr().out)
    here = dataclasses.asdict(machine.describe(load))
    assert printed.pop("machine") | {"date": ""} == here | {"date": ""} and printed == row
    printing.print_row(row, load, as_json=False)
    first, name, head, one, another, processor, run = capsys.readouterr().out.splitlines()
    assert first.split() == ["seconds", "1.5"] and name == "parts"
    assert len(head) == len(one) == len(another), "columns are aligned"
    assert one.split() == ["one", "1", "10.25"]
    assert processor.startswith("processor") and run.startswith("run")
