"""Detectors with a normalised density."""
