"""What a measurement ran on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

__all__ = ["cache_bytes", "cores", "describe", "thread_variables"]

_CPU = Path("/sys/devices/system/cpu/cpu0/cache")
#: Sizes where the system does not tell them.
_USUAL = {"L1": 32 * 2**10, "L2": 2**20, "L3": 16 * 2**20}


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """Return the name of the processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cache_bytes() -> dict[str, int]:
    """Return the sizes of the data caches that one core sees."""
    found = {}
    for index in sorted(_CPU.glob("index*")):
        if (index / "type").read_text().strip() == "Instruction":
            continue
        size = (index / "size").read_text().strip()
        found[f"L{(index / 'level').read_text().strip()}"] = int(size.rstrip("K")) * 2**10
    return {**_USUAL, **found}


def describe() -> dict[str, Any]:
    """Return processor, cores, caches and system: no name of the machine, no date."""
    return {
        "processor": processor(),
        "cores": cores(),
        "cache_bytes": cache_bytes(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def thread_variables(threads: int) -> dict[str, str]:
    """Return the environment that gives a process so many threads, whichever library asks."""
    names = (
        "NMM_INFER_THREADS", "NUMBA_NUM_THREADS", "NUMEXPR_NUM_THREADS", "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    )  # fmt: skip
    return dict.fromkeys(names, str(threads))
