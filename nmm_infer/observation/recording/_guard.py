"""What readers of files share: one sentence for whatever goes wrong in them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nmm_infer.errors import InputError

__all__ = ["DESCRIPTION", "guarded"]

logger = logging.getLogger(__name__)

DESCRIPTION = "dataset_description.json"  # marks the top folder of a BIDS dataset


@contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Keep a reader's warnings for the debug log, and make one sentence of its errors."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    except InputError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise InputError(
            f"{path}: cannot be read, it may be cut off or damaged "
            f"({type(error).__name__}: {reason[0] if reason else 'no reason given'})"
        ) from error
    for warning in caught:
        logger.debug("%s: %s", path, warning.message)
