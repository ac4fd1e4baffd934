"""Section "Show" of the dock: what is sure and what is not, as layers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari.layers import Image as ImageLayer
from napari.utils.notifications import show_error
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QComboBox, QGridLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_dps.errors import DPSError, InputError
from napari_dps.plugin.background import Background, sentence_of
from napari_dps.plugin.editors import QuietComboBox
from napari_dps.plugin.measure_sources import (
    base_name,
    image_transform,
    intensity_unit,
    recipe_and_report,
    result_of,
)
from napari_dps.uncertainty.looks import (
    COLOUR_MAPS,
    Look,
    bivariate,
    interval_width,
    opacity_by_probability,
)

if TYPE_CHECKING:
    from napari.viewer import Viewer

#: Frames per second of the samples: fast enough to flicker, slow enough to see each.
FPS = 5
#: Where a picture of certainty keeps what its legend says.
SHOWN = "napari_dps_shown"


class ShowPanel(QWidget):
    """Buttons that add layers, and a timer that plays the samples.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Where layers go.
    samples : callable
        Returns the chosen layer of samples; raises `InputError` where there is none.
    level, threshold : callable
        Return what the dock says.
    """

    legend = Signal(object)
    """Emitted with the `Look` whose legend is to be drawn."""

    def __init__(
        self,
        viewer: Viewer,
        samples: Callable[[], ImageLayer],
        level: Callable[[], float],
        threshold: Callable[[], float],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._samples = viewer, samples
        self._level, self._threshold = level, threshold
        self.work = Background(self)
        self._receive: Callable[[Any], None] | None = None
        self._playing: ImageLayer | None = None
        self._hidden: list[Any] = []
        self._timer = QTimer(self)
        self._timer.setInterval(round(1000 / FPS))
        self._timer.timeout.connect(self._next_sample)

        self.pair = self._button(
            "Mean and std", self.show_pair, "Mean and standard deviation side by side"
        )
        self.width = self._button(
            "Interval width", self.show_width, "Width of the interval at the level above, per pixel"
        )
        self.flicker = self._button(
            "Flicker", self.toggle_flicker,
            "Play the samples: what stands still is sure, what flickers is not",
        )  # fmt: skip
        self.flicker.setCheckable(True)
        self.opacity = self._button(
            "Opacity by probability", self.show_opacity,
            "As opaque as it is probable to be above the threshold",
        )  # fmt: skip
        self.bivariate = self._button(
            "Value and certainty", self.show_bivariate, "Hue by value, saturation by certainty"
        )
        self.maps: QComboBox = QuietComboBox()
        self.maps.addItems(COLOUR_MAPS)
        self.maps.setToolTip("Colour maps that are safe for the colour-blind")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(QLabel("<b>Show</b>"))
        table = QGridLayout()
        table.setContentsMargins(0, 0, 0, 0)
        for k, part in enumerate(
            (self.pair, self.flicker, self.width, self.bivariate, self.opacity, self.maps)
        ):
            table.addWidget(part, k // 2, k % 2)
        column.addLayout(table)
        self.work.finished.connect(self._arrived)
        self.work.failed.connect(lambda text: show_error(sentence_of(text)))

    def _button(self, text: str, action: Callable[[], None], tip: str) -> QPushButton:
        button = QPushButton(text)
        button.setToolTip(tip)
        button.clicked.connect(lambda: self._guard(action))
        return button

    @staticmethod
    def _guard(action: Callable[[], None]) -> None:
        try:
            action()
        except DPSError as error:
            show_error(sentence_of(error))

    # ------------------------------------------------------------------ layers

    def show_pair(self) -> None:
        """Show mean and standard deviation side by side, and nothing else."""
        samples = self._samples()
        base = base_name(samples)
        if len(samples.data) < 2:
            raise InputError(f"{samples.name!r} holds one sample, which has no standard deviation")
        there = [f"{base} std", f"{base} mean"]
        missing = [name for name in there if name not in self._viewer.layers]

        def both() -> dict[str, Any]:
            result = result_of(samples)
            return {there[0]: result.std, there[1]: result.mean} if missing else {}

        def place(arrays: dict[str, Any]) -> None:
            for name in missing:
                colormap = "magma" if name == there[0] else "gray"
                self._add(samples, arrays[name], name, colormap=colormap)
            for layer in self._viewer.layers:
                layer.visible = layer.name in there
            canvas = getattr(self._viewer, "canvas", None)  # napari 0.9 moved the grid
            (self._viewer if canvas is None else canvas).grid.enabled = True
            self._viewer.reset_view()

        self._start(both, place)

    def show_width(self) -> None:
        """Add a layer of the interval's width."""
        samples, level = self._samples(), self._level()
        unit = intensity_unit(recipe_and_report(samples)[0])

        def place(found: tuple[Any, str]) -> None:
            width, what = found
            told = f"{what}, {unit}" if unit else what
            name = f"{base_name(samples)} interval width"
            layer = self._add_view(samples, width, name, {"what": told}, colormap="magma")
            self.legend.emit((told, layer))

        self._start(lambda: interval_width(result_of(samples), level), place)

    def show_bivariate(self) -> None:
        """Add a colour picture: hue by value, saturation by certainty."""
        samples, level, colormap = self._samples(), self._level(), self.maps.currentText()
        unit = intensity_unit(recipe_and_report(samples)[0])
        self._start(
            lambda: bivariate(result_of(samples), level=level, colormap=colormap, unit=unit),
            lambda look: self._add_look(samples, look, "value and certainty"),
        )

    def show_opacity(self) -> None:
        """Add a colour picture, as opaque as structure is probable."""
        samples, threshold = self._samples(), self._threshold()
        colormap = self.maps.currentText()
        unit = intensity_unit(recipe_and_report(samples)[0])
        self._start(
            lambda: opacity_by_probability(
                result_of(samples), threshold, colormap=colormap, unit=unit
            ),
            lambda look: self._add_look(samples, look, "opacity by probability"),
        )

    def _start(self, compute: Callable[[], Any], receive: Callable[[Any], None]) -> None:
        self._receive = receive
        self.work.start(compute)

    def _arrived(self, value: Any) -> None:
        receive, self._receive = self._receive, None
        if receive is not None:
            receive(value)

    def _add(self, samples: ImageLayer, data: Any, name: str, **more: Any) -> Any:
        return self._viewer.add_image(data, name=name, **image_transform(samples), **more)

    def _add_view(
        self, samples: ImageLayer, data: Any, name: str, facts: dict[str, Any], **more: Any
    ) -> Any:
        """Add a picture made of a result, in place of its last one, and hide what lies below."""
        if name in self._viewer.layers and SHOWN in self._viewer.layers[name].metadata:
            self._viewer.layers.remove(name)
        for layer in self._viewer.layers:
            if layer.name.startswith(f"{base_name(samples)} "):
                layer.visible = False
        return self._add(samples, data, name, metadata={SHOWN: facts}, **more)

    def _add_look(self, samples: ImageLayer, look: Look, name: str) -> None:
        facts = {
            "what": look.what,
            "limits": look.limits,
            "certainty_limits": look.certainty_limits,
            "colormap": look.colormap,
        }
        self._add_view(samples, look.picture, f"{base_name(samples)} {name}", facts, rgb=True)
        self.legend.emit(look)

    # ------------------------------------------------------------------ flicker

    def toggle_flicker(self) -> None:
        """Start or stop playing the samples."""
        if self._playing is not None:
            self.stop()
            return
        self.flicker.setChecked(False)  # until there is something to play
        samples = self._samples()
        if len(samples.data) < 2:
            raise InputError(f"{samples.name!r} holds one sample, which cannot flicker")
        base = base_name(samples)
        self._hidden = [
            layer
            for layer in self._viewer.layers
            if layer is not samples and layer.visible and layer.name.startswith(f"{base} ")
        ]
        for layer in self._hidden:
            layer.visible = False
        samples.visible = True
        self._playing = samples
        self.flicker.setChecked(True)
        self._timer.start()

    def stop(self) -> None:
        """Stop playing, and show again what was hidden for it."""
        self._timer.stop()
        self.flicker.setChecked(False)
        self._playing = None
        for layer in self._hidden:
            layer.visible = True
        self._hidden = []

    def _next_sample(self) -> None:
        layer = self._playing
        if layer is None or layer not in self._viewer.layers:
            self.stop()
            return
        axis = self._viewer.dims.ndim - layer.ndim
        step = (int(self._viewer.dims.current_step[axis]) + 1) % len(layer.data)
        self._viewer.dims.set_current_step(axis, step)

    def shut_down(self) -> None:
        """Stop whatever is under way."""
        self.work.drop()
        # The viewer may be closing itself, with its layers gone already.
        with contextlib.suppress(RuntimeError):
            self.stop()
