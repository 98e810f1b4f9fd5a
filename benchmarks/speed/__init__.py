"""Our rollouts beside a bare `websockets` loop on the same running server; `benchmarks/openenv.py` is the command."""
