"""The recipe: everything that was chosen, as one small JSON text. Document and provenance."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    field_validator,
)

from napari_dps.arrays import ArrayRef
from napari_dps.components import (
    GROUPS,
    Component,
    ForwardModel,
    NoiseModel,
    PriorSource,
    SamplerChoice,
    make,
    nearest,
    sentence,
)
from napari_dps.errors import RecipeError

DEFAULTS = {"forward": "identity", "noise": "poisson", "prior": "fluorescence", "sampler": "auto"}


class Intensity(BaseModel):
    """The object map I = background + scale (x + 1)/2, in photoelectrons (object units)."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    scale: float = Field(gt=0, allow_inf_nan=False)
    """Object intensity between x = -1 and x = 1."""
    background: float = Field(0.0, allow_inf_nan=False)
    """Object intensity at x = -1."""


class Recipe(BaseModel):
    """What was measured, how, and how carefully to look.

    Parameters
    ----------
    forward, noise, prior, sampler : component, dict or kind
        The four choices; see ``napari-dps list``.
    intensity : "auto" or Intensity
        Object map; estimated from the data when "auto".
    valid : path or array or None
        Mask of the image's shape, nonzero where a pixel carries information.
    samples : int
        Posterior samples to draw.
    seed : int
        Seed of every random number of the run.

    Raises
    ------
    RecipeError
        One sentence about the first thing that is wrong.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    forward: SerializeAsAny[ForwardModel] = Field(default=None, validate_default=True)
    noise: SerializeAsAny[NoiseModel] = Field(default=None, validate_default=True)
    prior: SerializeAsAny[PriorSource] = Field(default=None, validate_default=True)
    sampler: SerializeAsAny[SamplerChoice] = Field(default=None, validate_default=True)
    intensity: Literal["auto"] | Intensity = "auto"
    valid: ArrayRef | None = None
    samples: int = Field(20, ge=1, le=100_000)
    seed: int = Field(0, ge=0, lt=2**63)

    def __init__(self, **fields: Any) -> None:
        unknown = [name for name in fields if name not in type(self).model_fields]
        if unknown:
            raise RecipeError(
                f"a recipe has no part {unknown[0]!r}; "
                f"{nearest(unknown[0], list(type(self).model_fields))}"
            )
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise RecipeError(sentence(error, "recipe", type(self))) from None
        self.forward.check_noise(self.noise)

    @field_validator("forward", "noise", "prior", "sampler", mode="before")
    @classmethod
    def _component(cls, value: Any, info: Any) -> Component:
        return make(info.field_name, DEFAULTS[info.field_name] if value is None else value)

    def with_parts(self, **parts: Any) -> Self:
        """Return a recipe with some parts replaced (and checked)."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**{**fields, **parts})

    def to_json(self, folder: Path | None = None, indent: int | None = 2) -> str:
        """Return the recipe as JSON.

        Parameters
        ----------
        folder : Path, optional
            Where arrays held in memory are written as content-hashed ``.npy`` files; without
            it only their hash is named.
        indent : int, optional
            As in :func:`json.dumps`.
        """
        recipe = self if folder is None else self._map_arrays(lambda a: a.write_beside(folder))
        return json.dumps(recipe.model_dump(mode="json"), indent=indent)

    def save(self, path: str | Path) -> Path:
        """Write the recipe, and the arrays that it holds, to ``path`` (.json)."""
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.to_json(path.parent) + "\n", encoding="utf-8")
        except OSError as error:
            raise RecipeError(
                f"the recipe cannot be written to {str(path)!r} ({error.strerror or error}); name "
                "a file in a folder that can be written"
            ) from error
        return path

    @classmethod
    def from_json(cls, text: str, folder: Path | None = None) -> Self:
        """Read a recipe from JSON; relative array paths are taken from ``folder``."""
        try:
            fields = json.loads(text)
        except json.JSONDecodeError as error:
            raise RecipeError(
                f"the recipe is no JSON ({error.msg} in line {error.lineno}); write it as an "
                "object with 'forward', 'noise', 'prior' and 'sampler'"
            ) from None
        if not isinstance(fields, dict):
            raise RecipeError(
                f"the recipe holds a {type(fields).__name__}; it must be a JSON object"
            )
        recipe = cls(**fields)
        return recipe if folder is None else recipe._map_arrays(lambda a: a.resolved_in(folder))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a recipe file."""
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise RecipeError(
                f"the recipe {str(path)!r} cannot be read ({reason}); name a JSON file"
            ) from None
        return cls.from_json(text, path.parent)

    @classmethod
    def parse(cls, value: Any = None, **parts: Any) -> Self:
        """Make a recipe from a recipe, a dict, a path or nothing, with some parts replaced."""
        given = {name: part for name, part in parts.items() if part is not None}
        if value is None:
            return cls(**given)
        if isinstance(value, (str, Path)):
            value = cls.load(value)
        if isinstance(value, cls):
            return value.with_parts(**given) if given else value
        if isinstance(value, Mapping):
            strange = [name for name in value if not isinstance(name, str)]
            if strange:
                raise RecipeError(
                    f"the recipe has the key {strange[0]!r}; its keys are words: "
                    f"{', '.join(cls.model_fields)}"
                )
            return cls(**{**value, **given})
        raise RecipeError(
            f"the recipe came as {type(value).__name__}; give a Recipe, a dict or a path"
        )

    def _map_arrays(self, change: Any) -> Self:
        """Return the recipe with every array field replaced by ``change(field)``."""
        parts: dict[str, Any] = {}
        for group in GROUPS:
            component: Component = getattr(self, group)
            changed = map_arrays(component, change)
            if changed is not component:
                parts[group] = changed
        if self.valid is not None:
            parts["valid"] = change(self.valid)
        return self.with_parts(**parts) if parts else self


def map_arrays(value: Any, change: Callable[[ArrayRef], ArrayRef]) -> Any:
    """Return a component with every array replaced, those of components inside it included.

    Parameters
    ----------
    value : object
        A component, or what a field of one holds; it is given back where it holds no array.
    change : callable
        From an array to another.
    """
    if isinstance(value, ArrayRef):
        return change(value)
    if isinstance(value, (tuple, list)):
        inner = [map_arrays(item, change) for item in value]
        same = all(new is old for new, old in zip(inner, value, strict=True))
        return value if same else type(value)(inner)
    if isinstance(value, Component):
        fields = {name: getattr(value, name) for name in type(value).model_fields}
        new = {name: map_arrays(field, change) for name, field in fields.items()}
        update = {name: field for name, field in new.items() if field is not fields[name]}
        return value.model_copy(update=update) if update else value
    return value
