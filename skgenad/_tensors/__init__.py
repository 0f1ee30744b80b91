"""Torch alone: networks, distances, moments, seeds. No estimator."""
