"""A measurement as a table: on screen, in a file, and in the features of its region layer."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Labels, Shapes
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem, QWidget

from napari_dps.uncertainty.measure import Measurement

__all__ = ["MeasurementTable", "rows_of", "save_csv", "write_features"]


def rows_of(found: Measurement) -> tuple[list[str], list[list[Any]]]:
    """Return heads and rows; the unit stands in a column of its own."""
    columns = found.columns()
    level = f"{found.level * 100:g} %"
    heads = {"low": f"low {level}", "high": f"high {level}"}
    if found.position is not None:
        heads["position"] = f"position ({found.position_unit})"
    names = [heads.get(name, name) for name in columns]
    rows = [list(values) for values in zip(*columns.values(), strict=True)]
    notes = found.notes or (found.note,) * len(rows)
    told = [[*row, found.unit, note] for row, note in zip(rows, notes, strict=True)]
    return [*names, "unit", "interval"], told


def save_csv(found: Measurement, path: str | Path) -> None:
    """Write the table as CSV with all digits; an empty cell where there is no value."""
    heads, rows = rows_of(found)
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(heads)
        for row in rows:
            writer.writerow(["" if _missing(v) else v for v in row])


def _missing(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def write_features(layer: Any, rows: Any, quantity: str, found: Measurement) -> None:
    """Write value, ends of the interval and spread of each region to its layer's features.

    Columns of others stay, and regions that were not measured hold NaN.

    Parameters
    ----------
    layer : Labels or Shapes layer
        Where the regions are from.
    rows : sequence of int
        Of the regions: labels, or places in the list of shapes.
    quantity : str
        What the columns are named after.
    found : Measurement
        One value per region.
    """
    import pandas as pd

    level = f"{found.level * 100:g} %"
    columns = {
        quantity: found.value,
        f"{quantity} low {level}": found.low,
        f"{quantity} high {level}": found.high,
        f"{quantity} std": found.std,
    }
    new = pd.DataFrame(columns, index=np.asarray(rows, dtype=int))
    old = layer.features
    if isinstance(layer, Labels):
        if "index" in old.columns:
            old = old.set_index("index")
        merged = old.reindex(old.index.union(new.index)).drop(columns=[*columns], errors="ignore")
        layer.features = merged.join(new).rename_axis("index").reset_index()
    elif isinstance(layer, Shapes):
        kept = old.drop(columns=[*columns], errors="ignore")
        layer.features = kept.join(new.reindex(kept.index))


class MeasurementTable(QTableWidget):
    """A measurement on screen, to four digits."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.verticalHeader().setVisible(False)
        self.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.setMinimumHeight(110)

    def show_measurement(self, found: Measurement) -> None:
        """Fill the table."""
        heads, rows = rows_of(found)
        self.setRowCount(len(rows))
        self.setColumnCount(len(heads))
        self.setHorizontalHeaderLabels(heads)
        for r, row in enumerate(rows):
            for c, value in enumerate(row):
                number = isinstance(value, (float, np.floating))
                item = QTableWidgetItem(_text(float(value)) if number else str(value))
                if number:
                    item.setTextAlignment(
                        Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
                    )
                self.setItem(r, c, item)


def _text(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4g}"
