"""Facts about a prior that lie beside its weights, and hold for exactly these weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_dps.errors import PriorError

if TYPE_CHECKING:
    from napari_dps.components import PriorSource

__all__ = ["facts_beside", "folder_of", "key_of"]


def folder_of(source: PriorSource) -> Path | None:
    """Return the folder of a prior's weights, None where it has none on this disk."""
    if source.kind == "fluorescence":
        from napari_dps.priors.fluorescence import FOLDER

        return FOLDER
    path = getattr(source, "path", "")
    if source.kind != "checkpoint" or not path:
        return None
    from napari_dps.priors._library import resolve

    found = Path(resolve(path, download=False))
    return found if found.is_dir() else found.parent


def key_of(source: PriorSource) -> str:
    """Return what tells this prior from every other: its choice and the hash of its weights."""
    return f"{source.model_dump_json()} {source.identity().get('hash')}"


def facts_beside(source: PriorSource, name: str) -> dict[str, Any] | None:
    """Return what the JSON file ``name`` beside a prior's weights says.

    Parameters
    ----------
    source : PriorSource
        The prior.
    name : str
        Of the file; its entry ``prior`` is the hash of the weights that it was made with.

    Returns
    -------
    dict or None
        None where there is no such file, or it was made with other weights.

    Raises
    ------
    PriorError
        If the file is there but cannot be read.
    """
    folder = folder_of(source)
    if folder is None or not (folder / name).is_file():
        return None
    try:
        found = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PriorError(
            f"{str(folder / name)!r} cannot be read ({error}): delete it, or make it again."
        ) from error
    if not isinstance(found, dict) or found.get("prior") != source.identity().get("hash"):
        return None
    return found
