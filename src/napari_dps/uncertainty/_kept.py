"""What calibrations share: they are kept as JSON, whole or not at all, and read back with care."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from napari_dps.components import sentence
from napari_dps.errors import InputError

__all__ = ["FORMAT", "Kept"]

FORMAT = 1
"""Of the files."""


class Kept(BaseModel):
    """Facts that are kept as a JSON file.

    Subclasses have a field ``format``, and name the field by which their files are known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    known_by: ClassVar[str]
    """A field that no other kind of file has."""
    stranger: ClassVar[str]
    """What to say of a file without it, behind its name."""

    def save(self, path: str | Path) -> Path:
        """Write it as JSON.

        Raises
        ------
        InputError
            If the disk refuses.
        """
        path = Path(path).expanduser()
        part = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
            part.replace(path)
        except OSError as error:
            raise InputError(
                f"the calibration cannot be written to {str(path)!r} ({error.strerror or error}); "
                "name a file in a folder that can be written"
            ) from error
        finally:
            part.unlink(missing_ok=True)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` has written.

        Raises
        ------
        InputError
            If it cannot be read, is none, or was written by a later napari-dps.
        """
        path = Path(path).expanduser()
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(
                f"the calibration {str(path)!r} cannot be read ({error.strerror or error})"
            ) from error
        except ValueError as error:
            raise InputError(f"{str(path)!r} is no calibration: it is no JSON") from error
        if not isinstance(fields, dict) or cls.known_by not in fields:
            raise InputError(f"{str(path)!r} {cls.stranger}")
        found = fields.get("format")
        if not isinstance(found, int) or found > FORMAT:
            raise InputError(
                f"{str(path)!r} was written by a later napari-dps (format {found}, this one reads "
                f"up to {FORMAT}); update napari-dps"
            )
        try:
            return cls(**fields)
        except ValidationError as error:
            raise InputError(sentence(error, f"the calibration {str(path)!r}", cls)) from None
