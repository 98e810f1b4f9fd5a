"""What a rollout costs beside its model; `benchmarks/library.py` is the command."""
