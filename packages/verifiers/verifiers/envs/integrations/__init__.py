"""Environments on top of other people's frameworks."""
