"""Noise models: one file each. How the detector counts."""
