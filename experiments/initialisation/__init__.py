"""The initialisation study: which scheme, by how much, why, and what is left of it at each scheme's best rate."""
