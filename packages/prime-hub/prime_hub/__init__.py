"""The Environments Hub: server, runner, package index and pages."""

__version__ = "0.1.0"
