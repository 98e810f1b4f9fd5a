"""A Dockerfile turned into a tree and a virtual environment, for the runtimes that have no container engine."""
