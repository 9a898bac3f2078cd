"""Start Firefox for Playwright, behind a relay of their messages: this module is also the relay.

Playwright drives an unchanged Firefox by WebDriver BiDi. It sets the media features of every window
by a command that Firefox ESR does not have, and gives up. The relay confirms that command instead
of Firefox. The preferences of the profile choose the theme and the motion, for all windows.
"""

import asyncio
import json
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

#: What Firefox prints once it listens; Playwright waits for the same line.
LISTENING = "WebDriver BiDi listening on "
#: The command that some versions of Firefox lack.
MEDIA = "emulation.setMediaFeaturesOverride"


def launch_firefox(
    playwright: "Playwright",
    firefox: str,
    directory: Path,
    *,
    dark: bool = False,
    moving: bool = True,
    timeout: float = 60_000,
) -> "Browser":
    """Start Firefox behind the relay.

    Parameters
    ----------
    playwright : Playwright
    firefox : str
        Path of the browser.
    directory : Path
        Receives the script that Playwright starts.
    dark, moving : bool
        Whether the system of the reader is dark, and whether it has motion.
    timeout : float
        Milliseconds.
    """
    script = directory / "firefox"
    command = shlex.join([sys.executable, str(Path(__file__)), firefox])
    script.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    script.chmod(0o700)
    return playwright.firefox.launch(
        channel="moz-firefox",  # Mozilla's, not the one that Playwright changes
        executable_path=script,
        firefox_user_prefs={
            "ui.systemUsesDarkTheme": int(dark),
            "ui.prefersReducedMotion": int(not moving),
        },
        timeout=timeout,
    )


async def run(command: list[str]) -> int:
    """Run Firefox until it ends, and relay one connection; return its exit status."""
    browser = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    errors = browser.stderr
    assert errors is not None
    address = None
    async for line in errors:
        if match := re.search(rf"{LISTENING}(\S+)", line.decode()):
            address = match[1]
            break
    assert address is not None, "Firefox ended before it listened"

    async def relay(driver: ServerConnection) -> None:
        assert driver.request is not None
        url = address + driver.request.path
        async with (
            connect(url, max_size=None, ping_interval=None) as firefox,
            asyncio.TaskGroup() as both,
        ):
            both.create_task(pass_on(driver, firefox))
            both.create_task(pass_on(firefox, driver))

    # no pings: on a busy machine an answer may take longer than they wait
    async with serve(relay, "127.0.0.1", 0, max_size=None, ping_interval=None) as server:
        port = server.sockets[0].getsockname()[1]
        print(f"{LISTENING}ws://127.0.0.1:{port}", file=sys.stderr, flush=True)
        await errors.read()  # to its end, so that Firefox never waits for a reader
        return await browser.wait()


async def pass_on(source: Connection, target: Connection) -> None:
    """Send what comes from the source to the target, and close it when the source ends."""
    async for message in source:
        await target.send(confirmed(str(message)))
    await target.close()


def confirmed(message: str) -> str:
    """Return a message; the refusal of the command that Firefox lacks becomes a confirmation."""
    answer = json.loads(message)
    if answer.get("error") == "unknown command" and MEDIA in message:
        return json.dumps({"type": "success", "id": answer["id"], "result": {}})
    return message


if __name__ == "__main__":
    sys.exit(asyncio.run(run(sys.argv[1:])))
