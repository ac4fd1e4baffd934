"""Forms made from component classes: one row a field, with its unit and its explanation."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_dps.components import Component, ForwardModel, component_class, make, registry
from napari_dps.errors import RecipeError
from napari_dps.fields import FieldInfo, describe_fields
from napari_dps.plugin.array_editor import ArrayEditor, LayerSource, no_layers
from napari_dps.plugin.editors import (
    MaybeEditor,
    QuietComboBox,
    make_editor,
)
from napari_dps.plugin.number_box import NumberBox, ReciprocalEditor

GROUP_TITLES = {
    "forward": "How it was measured",
    "noise": "Noise",
    "prior": "What it looks like",
    "sampler": "Sampler",
}
#: The names that the programs themselves use, for tooltips.
GROUP_WORDS = {
    "forward": "Forward model: how the object becomes the expected measurement.",
    "noise": "Noise model: how the detector counts.",
    "prior": "Prior: what such samples look like.",
    "sampler": "Sampler: how the posterior is drawn from.",
}


def label_of(name: str) -> str:
    """Return a field's name as a label: ``read_noise`` -> ``Read noise``."""
    text = name.replace("_", " ")
    return text[:1].upper() + text[1:]


def tooltip_of(info: FieldInfo) -> str:
    """Return what a field means, its range and its default, as rich text that wraps."""
    parts = [info.description or label_of(info.name)]
    if info.range_text:
        parts.append(f"Allowed: {info.range_text}.")
    if not info.required and info.default is not None and info.annotation != "array":
        parts.append(f"Default: {info.default}.")
    return f"<qt>{html.escape(' '.join(parts))}</qt>"


def shared_fields(cls: type[Component]) -> frozenset[str]:
    """Return the parameters that every forward model has, whatever it measures."""
    return (
        frozenset(ForwardModel.model_fields) - {"kind"} if cls.group == "forward" else frozenset()
    )


def _form_in(column: QVBoxLayout, page: QWidget) -> QFormLayout:
    form = QFormLayout(page)
    form.setContentsMargins(0, 0, 0, 0)
    form.setVerticalSpacing(4)
    form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.DontWrapRows)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    column.addWidget(page)
    return form


class ComponentForm(QWidget):
    """The parameters of one component class.

    Parameters
    ----------
    cls : type of Component
        Whose parameters to show.
    layers : callable
        Returns the layers that can serve as arrays, by name.
    """

    changed = Signal()

    def __init__(
        self,
        cls: type[Component],
        layers: LayerSource = no_layers,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.component = cls
        self.editors: dict[str, Any] = {}
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        form = _form_in(column, QWidget())
        shared = shared_fields(cls)
        self.more: QToolButton | None = None
        for info in describe_fields(cls):
            if info.name in shared and self.more is None:
                form = self._add_more(column)
            editor = make_editor(info, _array_editor_of(info, layers))
            unit = info.unit
            if info.name == "gain":
                unit = ""
                if info.annotation is float:
                    editor = _with_both_units(editor, info)
            editor.setToolTip(tooltip_of(info))
            label = QLabel(label_of(info.name) + (f" ({unit})" if unit else ""))
            label.setToolTip(tooltip_of(info))
            label.setWordWrap(True)
            form.addRow(label, editor)
            editor.changed.connect(self.changed)
            self.editors[info.name] = editor
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)

    def _add_more(self, column: QVBoxLayout) -> QFormLayout:
        """Add what all models share behind a button, closed: few measurements need it."""
        self.more, rest = QToolButton(), QWidget()
        self.more.setText("Background, flat field, full scale")
        self.more.setCheckable(True)
        self.more.setAutoRaise(True)
        self.more.setArrowType(Qt.ArrowType.RightArrow)
        self.more.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.more.setToolTip("Light that is not the object's, uneven illumination, saturation")
        self.more.toggled.connect(rest.setVisible)
        self.more.toggled.connect(self._turn_arrow)
        column.addWidget(self.more)
        form = _form_in(column, rest)
        rest.setVisible(False)
        return form

    def _turn_arrow(self, opened: bool) -> None:
        assert self.more is not None
        self.more.setArrowType(Qt.ArrowType.DownArrow if opened else Qt.ArrowType.RightArrow)

    def value(self) -> Component:
        """Return the component that the form describes.

        Raises
        ------
        RecipeError
            If a required field is empty, or values do not fit each other.
        """
        kind = self.component.kind_name()
        fields: dict[str, Any] = {}
        for info in describe_fields(self.component):
            value = self.editors[info.name].value()
            if value is None and info.required:
                raise RecipeError(
                    f"{label_of(info.name)!r} of {self.component.title or kind!r} is empty; "
                    + ("choose a layer or a file" if info.annotation == "array" else "fill it in")
                )
            if value is None and not info.optional:
                continue
            fields[info.name] = value
        return make(self.component.group, {"kind": kind, **fields})

    def set_value(self, component: Component) -> None:
        """Show a component of the form's class; what is hidden is shown where it says something."""
        for name, editor in self.editors.items():
            editor.set_value(getattr(component, name))
        fields = type(component).model_fields
        told = [
            n for n in shared_fields(self.component) if getattr(component, n) != fields[n].default
        ]
        if self.more is not None and told:
            self.more.setChecked(True)


def _with_both_units(editor: Any, info: FieldInfo) -> Any:
    """Let a gain be given as camera sheets do (electrons per ADU) beside our ADU per electron."""
    inner = editor.inner if isinstance(editor, MaybeEditor) else editor
    if not isinstance(inner, NumberBox):
        return editor
    both = ReciprocalEditor(inner, "ADU/e⁻", "e⁻/ADU")
    if not isinstance(editor, MaybeEditor):
        return both
    wrapped = MaybeEditor(both, "auto", "auto")
    wrapped.set_value(info.default)
    return wrapped


def _array_editor_of(info: FieldInfo, layers: LayerSource) -> Callable[[str, bool], QWidget]:
    """Return what makes the field's editor where it holds an array."""

    def make_one(name: str, number: bool) -> QWidget:
        return ArrayEditor(label_of(name).lower(), layers, number, _number_of(info))

    return make_one


def _number_of(info: FieldInfo) -> QWidget | None:
    """Return the editor of the one number that may stand for an array."""
    if not info.number:
        return None
    box = NumberBox(
        float, info.minimum, info.maximum, info.exclusive_minimum, info.exclusive_maximum
    )
    if info.name != "gain":
        return box
    box.set_value(1.0)
    return ReciprocalEditor(box, "ADU/e⁻", "e⁻/ADU")


class ComponentChooser(QWidget):
    """One of the four choices: a list of kinds, and below it the form of the chosen one.

    Parameters
    ----------
    group : {"forward", "noise", "prior", "sampler"}
        Which choice.
    layers : callable
        Returns the layers that can serve as arrays, by name.
    """

    changed = Signal()

    def __init__(
        self, group: str, layers: LayerSource = no_layers, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.group, self._layers = group, layers
        self.forms: dict[str, ComponentForm] = {}
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)

        head = QHBoxLayout()
        head.setSpacing(4)
        self.fold = QToolButton()
        self.fold.setCheckable(True)
        self.fold.setAutoRaise(True)
        self.fold.setToolTip("Show or hide the parameters")
        self.fold.toggled.connect(self._folded)
        title = QLabel(f"<b>{GROUP_TITLES[group]}</b>")
        title.setToolTip(GROUP_WORDS[group])
        head.addWidget(self.fold)
        # The name that recipes and the command line use.
        self.kind_label = QLabel()
        self.kind_label.setEnabled(False)
        head.addWidget(title)
        head.addStretch(1)
        head.addWidget(self.kind_label)
        column.addLayout(head)

        self.kinds = QuietComboBox()
        self.kinds.setToolTip(GROUP_WORDS[group])
        for kind, cls in registry(group).items():
            self.kinds.addItem(cls.title or kind, kind)
            self.kinds.setItemData(
                self.kinds.count() - 1,
                f"<qt>{html.escape(cls.summary())}</qt>",
                Qt.ItemDataRole.ToolTipRole,
            )
        column.addWidget(self.kinds)
        # One form visible at a time: a stacked widget would stay as tall as its tallest page.
        self._pages = QWidget()
        pages = QVBoxLayout(self._pages)
        pages.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._pages)
        self.kinds.currentIndexChanged.connect(self._kind_changed)
        self.fold.setChecked(True)
        self._kind_changed()

    @property
    def kind(self) -> str:
        """The chosen kind."""
        return str(self.kinds.currentData())

    @property
    def form(self) -> ComponentForm:
        """The form of the chosen kind; made when first needed, kept afterwards."""
        if self.kind not in self.forms:
            form = ComponentForm(component_class(self.group, self.kind), self._layers)
            form.changed.connect(self.changed)
            self.forms[self.kind] = form
            self._pages.layout().addWidget(form)
        return self.forms[self.kind]

    def value(self) -> Component:
        """Return the component chosen, with its parameters."""
        return self.form.value()

    def set_value(self, component: Component) -> None:
        """Choose a component and show its parameters.

        Raises
        ------
        RecipeError
            If its kind is not in the list.
        """
        index = self.kinds.findData(component.kind_name())
        if index < 0:
            raise RecipeError(f"there is no {self.group} {component.kind_name()!r} in this form")
        self.kinds.setCurrentIndex(index)
        self.form.set_value(component)

    def _kind_changed(self) -> None:
        form = self.form
        for other in self.forms.values():
            other.setVisible(other is form)
        self.kind_label.setText(self.kind)
        self._folded(self.fold.isChecked())
        self.changed.emit()

    def _folded(self, opened: bool) -> None:
        arrow = Qt.ArrowType.DownArrow if opened else Qt.ArrowType.RightArrow
        self.fold.setArrowType(arrow)
        if self.kinds.count():
            empty = not self.form.editors
            self._pages.setVisible(opened and not empty)
            self.fold.setEnabled(not empty)
