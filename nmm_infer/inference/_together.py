"""Many fits at a time, whose questions to a likelihood are answered as one batch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nmm_infer import _threads
from nmm_infer.inference._likelihood import Likelihood

__all__ = ["together"]

Array = NDArray[np.float64]
Result = TypeVar("Result")

#: Fits at a time: a small batch costs as much as a larger one.
_FITS = 100


class _Question:
    """Points that one fit asks about, and what comes back."""

    def __init__(self, z: Array) -> None:
        self.z = z
        self.answer: tuple[Array, NDArray[np.bool_]] | None = None
        self.error: BaseException | None = None

    @property
    def open(self) -> bool:
        return self.answer is None and self.error is None


class _Desk:
    """A likelihood that waits until all fits have asked, then evaluates once.

    Parameters
    ----------
    likelihood : Likelihood
        The likelihood.
    fits : int
        Fits that are under way.
    """

    def __init__(self, likelihood: Likelihood, fits: int) -> None:
        self.prior = likelihood.prior
        self._likelihood, self._fits = likelihood, fits
        self._asked: list[_Question] = []
        self._changed = threading.Condition()
        self._n_threads = _threads.n_threads()  # worker threads have no context of their own

    def mean(self, z: Array) -> tuple[Array, NDArray[np.bool_]]:
        """See :meth:`Likelihood.mean`."""
        question = _Question(z)
        with self._changed:
            self._asked.append(question)
            self._answer()
            while question.open:
                self._changed.wait()
        if question.error is not None:
            raise question.error
        assert question.answer is not None
        return question.answer

    def log_prob(self, z: Array, y: Array) -> Array:
        """See :meth:`Likelihood.log_prob`."""
        return self._likelihood.log_prob(z, y)

    def leave(self) -> None:
        """One fit has ended: nobody waits for it any longer."""
        with self._changed:
            self._fits -= 1
            self._answer()

    def _answer(self) -> None:
        if not self._asked or len(self._asked) < self._fits:
            return
        asked, self._asked = self._asked, []
        try:
            with _threads.using(self._n_threads):
                means, valid = self._likelihood.mean(np.concatenate([q.z for q in asked]))
            ends = np.cumsum([len(q.z) for q in asked])[:-1]
            parts = zip(np.split(means, ends), np.split(valid, ends), strict=True)
            for question, answer in zip(asked, parts, strict=True):
                question.answer = answer
        except BaseException as error:  # everyone who waits must hear of it
            for question in asked:
                question.error = error
        self._changed.notify_all()


def together(fit: Callable[[Any, int], Result], likelihood: Likelihood, n: int) -> list[Result]:
    """Run ``fit(likelihood, i)`` for ``n`` problems, up to a hundred at a time.

    The results do not depend on how many run at a time if the likelihood's do not depend on the
    batch.
    """
    results: list[Any] = [None] * n
    workers = min(n, _FITS)
    desk = _Desk(likelihood, workers)
    left = iter(range(n))
    lock = threading.Lock()

    def work() -> None:
        try:
            while True:
                with lock:
                    i = next(left, None)
                if i is None:
                    return
                results[i] = fit(desk, i)
        finally:
            desk.leave()

    with ThreadPoolExecutor(max(workers, 1)) as pool:
        for job in [pool.submit(work) for _ in range(workers)]:
            job.result()
    return results
