"""Run one tool in a process of its own, one line of JSON for each command.

The first line on standard input is the job; every further one is ``run`` (simulate, answer with
the seconds it took) or ``check`` (simulate once without noise and once with it, answer with what
came out).
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import thread_variables
from benchmarks.peers import Case

__all__ = ["MissingToolError", "Tool"]

#: What a check simulates, in s: without noise; with it, of which the first part is left out.
_QUIET, _NOISY, _SETTLE = 0.5, 3.0, 1.0


class MissingToolError(Exception):
    """The tool is not installed."""


class Tool:
    """A tool in its process, compiled and ready; a context manager.

    Parameters
    ----------
    name : str
        File in :mod:`benchmarks.peers`.
    distribution : str
        Installed distribution, of which the version is told.
    case : Case
        What to simulate.
    simulations : int
        Simulations at a time.
    seconds : float
        Simulated time.
    python : str
        Interpreter that has the tool.
    """

    def __init__(
        self, name: str, distribution: str, case: Case, simulations: int, seconds: float,
        python: str = sys.executable,
    ) -> None:  # fmt: skip
        self.case, self.simulations, self.seconds = case, simulations, seconds
        self.process = subprocess.Popen(
            [python, "-m", "benchmarks.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, **thread_variables(case.threads)}, cwd=Path(__file__).parents[1],
        )  # fmt: skip
        job = {
            "name": name, "distribution": distribution, "case": asdict(case),
            "simulations": simulations, "seconds": seconds,
        }  # fmt: skip
        try:
            answer = self._ask(json.dumps(job))
        except BaseException:
            self.__exit__()
            raise
        self.version, self.precision = answer["version"], answer["precision"]

    def __enter__(self) -> Tool:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()

    def _ask(self, line: str) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        print(line, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the process of the tool ended: {self.process.wait()}")
        content: dict[str, Any] = json.loads(answer)
        if "missing" in content:
            raise MissingToolError(content["missing"])
        if "error" in content:
            raise RuntimeError(content["error"])
        return content

    def rate(self) -> float:
        """Simulate once and return node-steps per second."""
        steps = self.simulations * self.case.nodes * self.case.steps(self.seconds)
        return float(steps / self._ask("run")["seconds"])

    def check(self) -> dict[str, Any]:
        """Return ``quiet`` (node, sample) in mV, and ``mean`` and ``sd`` with noise, in mV."""
        answer = self._ask("check")
        return {**answer, "quiet": np.array(answer["quiet"])}


def _check(module: Any, case: Case) -> dict[str, Any]:
    plain = replace(case, options={**(case.options or {}), "antialias": False})
    quiet = module.prepare(replace(plain, sigma=0.0), 1, _QUIET).run()[0]
    noisy = module.prepare(plain, 1, _NOISY).run()[0]
    late = noisy[:, round(_SETTLE / _NOISY * noisy.shape[1]) :]
    assert np.isfinite(late).all()
    # The mean over nodes of each node's standard deviation over time.
    return {
        "quiet": np.asarray(quiet, float).tolist(),
        "mean": float(late.mean()),
        "sd": float(late.std(axis=1).mean()),
    }


def _serve(lines: Any, answer: Any) -> None:
    job: Mapping[str, Any] = json.loads(next(lines))
    try:
        told = version(job["distribution"])
        module = importlib.import_module(f"benchmarks.peers.{job['name']}")
    except ImportError as error:
        answer({"missing": str(error)})
        return
    case = Case(**job["case"])
    prepared = module.prepare(case, job["simulations"], job["seconds"])
    prepared.run()  # compiles
    answer({"version": told, "precision": prepared.precision})
    for line in lines:
        if line.strip() == "check":
            answer(_check(module, case))
            continue
        begin = time.perf_counter()
        result = prepared.run()
        seconds = time.perf_counter() - begin
        assert np.isfinite(result).all()
        answer({"seconds": seconds})


def main() -> None:
    """Answer on standard output; whatever the tools print goes to standard error."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(content: dict[str, Any]) -> None:
        print(json.dumps(content), file=channel, flush=True)

    try:
        _serve(iter(sys.stdin), answer)
    except Exception as error:
        answer({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
