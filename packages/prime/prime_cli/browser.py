"""A page in the user's browser, where there is one."""

from __future__ import annotations

import os
import subprocess
import sys


def there_is_one() -> bool:
    """Whether a browser with a window can be expected here; one inside the terminal would take the terminal away."""
    if os.environ.get("BROWSER", "").strip() or sys.platform == "darwin":
        return True
    return any(os.environ.get(name, "").strip() for name in ("DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"))


def show(address: str) -> bool:
    """Open a page and go on; False where there is no browser. What the browser prints goes nowhere."""
    if not there_is_one():
        return False
    from prime_core.children import child_environment

    opening = subprocess.Popen(
        [sys.executable, "-P", "-m", "webbrowser", "-t", address],
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for this command
    )
    opening.returncode = 0  # it may outlive this command, which must not warn about it
    return True
