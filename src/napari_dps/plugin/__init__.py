"""The napari plugin: dock widget, worker, layers, sample data. Only here may Qt be imported."""
