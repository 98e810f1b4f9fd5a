"""Small help for evaluations."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def quiet_datasets() -> Generator[None]:
    """Within the block `datasets` shows no progress bars and logs errors only; where it is not installed there is
    nothing to do.
    """
    try:
        import datasets  # ty: ignore[import-not-found]
    except ImportError:
        yield
        return
    bars, level = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        if not bars:
            datasets.enable_progress_bars()
