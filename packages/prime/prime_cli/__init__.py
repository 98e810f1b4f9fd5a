"""The prime command: build, publish, install and evaluate environments."""
