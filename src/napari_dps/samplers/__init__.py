"""Samplers: one file each, with its paper at the top."""
