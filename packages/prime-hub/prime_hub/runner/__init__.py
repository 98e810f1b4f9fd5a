"""The runner: a small program, one a host, that owns image builds, sandboxes, their ports, logs and deadlines."""
