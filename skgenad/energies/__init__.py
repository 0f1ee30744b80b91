"""Detectors that train an energy with negatives from Langevin chains."""
