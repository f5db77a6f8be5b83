"""What is fitted lies in a folder of two files: JSON and safetensors, no pickle."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from nmm_infer.errors import InputError

__all__ = ["write_folder"]


def write_folder(
    folder: str | Path, name: str, description: Mapping[str, Any], weights: dict[str, torch.Tensor]
) -> Path:
    """Write ``{name}.json`` and ``weights.safetensors`` aside, then put them in place.

    Parameters
    ----------
    folder : path
        Where; what was saved there before is replaced.
    name : str
        Name of the JSON file.
    description : mapping
        JSON-ready.
    weights : dict of str to torch.Tensor
        Weights.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    InputError
        If there is a file of that name, or a folder that holds anything else.
    """
    folder = Path(folder)
    files = {f"{name}.json", "weights.safetensors"}
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: exists and is not a folder")
    foreign = [p.name for p in folder.iterdir() if p.name not in files] if folder.exists() else []
    if foreign:
        raise InputError(
            f"{folder}: holds {sorted(foreign)[0]!r}, which save did not write: choose "
            "another folder"
        )
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    (aside / f"{name}.json").write_text(json.dumps(description, indent=1))
    save_file(
        {k: v.contiguous().clone() for k, v in weights.items()}, aside / "weights.safetensors"
    )
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(aside, folder)
    return folder
