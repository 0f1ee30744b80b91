"""Settings with which every detector trains in a moment, by the name of its class."""

TINY = {
    "DAGMM": {"hidden_sizes": (8,), "latent_dim": 2, "n_components": 2, "max_steps": 10},
}
