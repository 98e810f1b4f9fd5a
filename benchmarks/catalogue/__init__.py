"""The catalogue with very many environments: filling it, asking it, and a package index to compare it with."""
