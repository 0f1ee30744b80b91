"""What all detectors share: contract, rows, units, training, files."""
