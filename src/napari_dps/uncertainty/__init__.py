"""Error bars: registration, intervals and calibration."""
