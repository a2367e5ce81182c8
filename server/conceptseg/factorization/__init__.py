"""Feature maps to activations: exact non-negative least squares, fitting, dictionaries."""
