"""A chain of forward models, such as blur, then binning, then missing pixels."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, SerializeAsAny, field_validator

from napari_dps.arrays import ArrayRef
from napari_dps.components import ForwardModel, NoiseModel, make
from napari_dps.errors import DPSError, InputError, RecipeError
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.operator import Operator


class Compose(ForwardModel):
    """A chain of forward models: the first step is applied to the object first."""

    kind: Literal["compose"] = "compose"
    title: ClassVar[str] = "Chain of models"

    steps: tuple[SerializeAsAny[ForwardModel], ...] = Field(())
    """Forward models as a list, each with its kind and parameters, such as [{"kind":
    "gaussian-blur", "sigma": 2}, {"kind": "downsample"}]."""

    @field_validator("steps", mode="before")
    @classmethod
    def _steps(cls, value: Any) -> Any:
        if value is None:
            return ()
        if not isinstance(value, (list, tuple)):
            raise RecipeError(
                f"forward 'compose': steps came as {type(value).__name__}; give a list of forward "
                "models"
            )
        made = []
        for number, step in enumerate(value, 1):
            try:
                model = make("forward", step)
            except RecipeError as error:
                raise RecipeError(f"step {number} of compose: {error}") from None
            assert isinstance(model, ForwardModel)
            own = model.background.number != 0 or model.flat_field is not None
            if own or model.full_scale != "auto":
                raise RecipeError(
                    f"step {number} of compose ({model.kind!r}) has a background, flat field or "
                    "full scale of its own; these belong to the detector: give them to compose"
                )
            made.append(model)
        return tuple(made)

    def _chain(self) -> tuple[ForwardModel, ...]:
        if not self.steps:
            raise InputError(
                "compose has no steps; give a list of forward models, the first applied first"
            )
        return self.steps

    def _measuring(self) -> int:
        """Return the number, from 0, of the step that measures: the last but for masks."""
        steps = self._chain()
        found = len(steps) - 1
        while found and steps[found].only_masks:
            found -= 1
        return found

    def dimensions(self, axes: str, shape: tuple[int, ...]) -> int:
        """Return 3 where a step measures stacks."""
        return max(step.dimensions(axes, shape) for step in self._chain())

    def object_dimensions(self, axes: str, shape: tuple[int, ...]) -> int:
        """Return 3 where a step has volumes for objects."""
        steps = self._chain()
        return max(
            getattr(step, "object_dimensions", step.dimensions)(axes, shape) for step in steps
        )

    def stack_axis(self, leading: str) -> str:
        """Return the stack's axis as the measuring step names it."""
        return self._chain()[self._measuring()].stack_axis(leading)

    def object_channels(self) -> int:
        """Return the channels of the first step's object."""
        return self._chain()[0].object_channels()

    def measurement_shape(self, object_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape after all steps."""
        for step in self._chain():
            object_shape = step.measurement_shape(object_shape)
        return object_shape

    def object_pixel_size(self, grid: Grid) -> tuple[float, ...] | None:
        """Return the pitch before all steps."""
        for step in reversed(self._chain()):
            grid = replace(grid, pixel_size=step.object_pixel_size(grid))
        return grid.pixel_size

    def object_axes_from(self, count: int) -> tuple[int, ...]:
        """Return where the object's axes take their pitch from, through all steps."""
        found = tuple(range(count))
        for step in reversed(self._chain()):
            found = tuple(found[k] for k in step.object_axes_from(count))
        return found

    def object_offset(self, grid: Grid) -> tuple[float, ...]:
        """Return the first pixel's place; every step's own counts in its object's pixels."""
        unit = replace(grid, pixel_size=(1.0,) * len(grid.shape))
        total = (0.0,) * len(grid.shape)
        for step in reversed(self._chain()):
            size = step.object_pixel_size(unit)
            if size is None or unit.pixel_size is None or len(size) != len(total):
                return (0.0,) * len(grid.shape)
            own = step.object_offset(unit)
            total = tuple(
                t * old / new + o
                for t, old, new, o in zip(total, unit.pixel_size, size, own, strict=True)
            )
            unit = replace(unit, pixel_size=size)
        return total

    def laid_out(self, lay: Callable[[ArrayRef], ArrayRef]) -> "Compose":
        """Return the chain with masks of a whole image laid out as its frames are."""
        steps, at = self._chain(), self._measuring()
        after = (step.laid_out(lay) for step in steps[at:])
        return self.model_copy(update={"steps": (*steps[:at], *after)})

    def of_frame(self, index: int, dimensions: int) -> "Compose":
        """Return the chain with the masks of one frame."""
        steps, at = self._chain(), self._measuring()
        after = [step.of_frame(index, dimensions) for step in steps[at:]]
        if all(new is old for new, old in zip(after, steps[at:], strict=True)):
            return self
        return self.model_copy(update={"steps": (*steps[:at], *after)})

    def measured_pixels(self, frames: Any) -> Any:
        """Return True where all of the last steps that only leave pixels out say measured."""
        found = None
        for step in reversed(self._chain()):
            # The full scale is the detector's, and so of the whole chain.
            step = step.model_copy(update={"full_scale": self.full_scale})
            own = step.measured_pixels(frames)
            if own is not None:
                found = own if found is None else found & own
            if not step.only_masks:
                break
        return found

    def real_array(
        self, image: Any, axes: str | None, *, measurement: bool = True
    ) -> tuple[Any, str | None]:
        """Return an image as the measuring step takes it, or an object as the first one does."""
        step = self._chain()[self._measuring() if measurement else 0]
        return step.real_array(image, axes, measurement=measurement)

    def check_noise(self, noise: NoiseModel) -> None:
        """Refuse noise that the measuring step refuses."""
        if self.steps:
            self.steps[self._measuring()].check_noise(noise)

    def white_noise(
        self, frames: Any, grid: Grid | None = None, valid: Any = None
    ) -> tuple[float, float] | None:
        """Return the noise where the measuring step can tell."""
        return self._chain()[self._measuring()].white_noise(frames, grid, valid)

    def resolved(self, frames: Any, grid: Grid, report: dict[str, Any]) -> "Compose":
        """Return the chain with the measuring step's findings filled in."""
        steps, at = self._chain(), self._measuring()
        found = steps[at].resolved(frames, grid, report)
        if found is steps[at]:
            return self
        return self.model_copy(update={"steps": (*steps[:at], found, *steps[at + 1 :])})

    def object_to_input(self, values: Any, gain: float, offset: float) -> Any:
        """Turn an object in photoelectrons into the units of the input image."""
        return self._chain()[-1].object_to_input(values, gain, offset)

    def object_from_input(self, values: Any, gain: float, offset: float) -> Any:
        """Turn an object in the units of the input image into photoelectrons."""
        return self._chain()[-1].object_from_input(values, gain, offset)

    def warnings(self, grid: Grid) -> list[str]:
        """Return what the steps say, each on the grid of what it measures."""
        told = []
        for step in reversed(self._chain()):
            told += step.warnings(grid)
            shape = step.bind(replace(grid, device="cpu")).x_shape[1:]
            grid = replace(grid, shape=shape, pixel_size=step.object_pixel_size(grid))
        return told

    def bind(self, grid: Grid) -> "Operator":
        """Build the operator: the last step first, since its object is what the others measure.

        Raises
        ------
        InputError
            If a step does not fit those after it.
        """
        from napari_dps.forward._chain import Chain

        steps = self._chain()
        operators: list[Operator] = []
        masks = []
        at_the_end = True
        for number in range(len(steps), 0, -1):
            step = steps[number - 1]
            try:
                if step.only_masks and not at_the_end:
                    step.measurement_shape(grid.shape)  # refuses a mask for every frame
                operator = step.bind(grid)
            except DPSError as error:
                raise type(error)(f"step {number} of compose ({step.kind!r}): {error}") from None
            self._fits(number, step, operator, operators)
            if at_the_end and operator.measured is not None:
                masks.append(operator.measured.expand(operator.y_shape))
            at_the_end = at_the_end and step.only_masks
            operators.insert(0, operator)
            pixel = step.object_pixel_size(grid)
            grid = replace(grid, shape=operator.x_shape[1:], pixel_size=pixel)
        return Chain(operators, masks)

    def _fits(
        self, number: int, step: ForwardModel, operator: "Operator", after: list["Operator"]
    ) -> None:
        if not after:
            return
        name = f"step {number} of compose ({step.kind!r})"
        if operator.symmetric or operator.y_shape[1:] != after[0].x_shape[1:]:
            raise InputError(
                f"{name} records magnitudes only, so nothing can follow it; put it last, and give "
                "it the mask of missing pixels itself"
                if operator.symmetric
                else f"{name} gives {operator.y_shape[1:]} pixels, but step {number + 1} takes "
                f"{after[0].x_shape[1:]}; leave one out or change their order"
            )
        if operator.y_shape[0] != after[0].x_shape[0]:
            raise InputError(
                f"{name} gives {operator.y_shape[0]} channels, but step {number + 1} takes "
                f"{after[0].x_shape[0]}: real and complex models do not fit each other"
            )
