"""Evaluations on the Hub: pushing a run's folder, looking at what was pushed, comparing two."""
