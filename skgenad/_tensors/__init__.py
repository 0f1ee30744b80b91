"""What needs torch and no estimator: networks, distances, moments, seeds."""
