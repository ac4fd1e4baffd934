"""Priors: what the objects look like."""
