# SPDX-License-Identifier: Apache-2.0
"""Starts the demo page on this machine and prints its address; Ctrl-C ends it.

Weights are looked for in quickstart/ and the model folders' test/output/; --weights names others.
"""

from __future__ import annotations  # an older Python reads the options too, see ci/demo.sh

import argparse
import difflib
import os
import shutil
import signal
import sys
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(__file__)), "shared"))

from harness.errors import UserError, run_program

HERE = ("127.0.0.1", "localhost")
# No telemetry, no look for newer versions, no proxy between the page and this machine.
QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
QUIET.update(HF_HUB_DISABLE_TELEMETRY="1", NO_PROXY=",".join(HERE), no_proxy=",".join(HERE))
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'"


OPTIONS = ("--weights", "--port", "--host", "--timeout", "--check", "--help")


class Policy:
    """Tells the browser, with each answer, to fetch from this server only and to keep nothing."""

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send):
        """Answers a request as the page does, with two headers more."""

        async def send_more(message):
            if message["type"] == "http.response.start":
                more = [
                    (b"content-security-policy", POLICY.encode()),
                    (b"referrer-policy", b"no-referrer"),
                ]
                message = dict(message, headers=[*message.get("headers", []), *more])
            await send(message)

        await self._app(scope, receive, send_more)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Returns the options of the command line.

    Raises:
      UserError: if the host is not this machine, or a number is out of its range.
    """
    parser = argparse.ArgumentParser(
        prog="demo",
        usage="%(prog)s [options]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    text = "weights of a model: pix2pix, style, stargan, whitebox or ugatit; may be given again"
    add("--weights", action="append", default=[], metavar="MODEL=PATH", help=text)
    text = "port of the page (default: the first that is free from 7860 on)"
    add("--port", type=int, default=None, help=text)
    add("--host", default=HERE[0], help="the page is for this machine only: %s" % " or ".join(HERE))
    text = "seconds without a sign after which a worker has failed (default 300)"
    add("--timeout", type=float, default=300.0, help=text)
    add("--check", action="store_true", help="look at these options alone, and start nothing")
    options, unknown = parser.parse_known_args(argv)
    if unknown:
        near = difflib.get_close_matches(unknown[0].split("=")[0], OPTIONS, n=1)
        ending = "; did you mean %s?" % near[0] if near else ""
        parser.error("unknown option %s%s (--help lists every option)" % (unknown[0], ending))
    if options.host not in HERE:
        text = "--host %s: the page reads and shows files of this machine and is for it alone; "
        raise UserError((text + "leave the option out") % options.host)
    if options.port is not None and not 1024 <= options.port <= 65535:
        raise UserError("--port %d: it must be 1024 to 65535" % options.port)
    if not 0 < options.timeout < float("inf"):
        raise UserError("--timeout %g: it must be above 0 seconds" % options.timeout)
    return options


def main() -> int:
    """Serves the page until a signal comes; leaves nothing behind."""
    options = parse()
    from tools.demo import finding

    given = finding.parse_given(options.weights)
    if options.check:
        return 0
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, lambda *_: ended.set())
    folder = tempfile.mkdtemp(prefix="demo-")
    try:
        serve(options, given, folder, ended)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def serve(options, given: dict[str, str], folder: str, ended: threading.Event) -> None:
    """Serves the page until `ended` is set.

    Args:
      options: of `parse`.
      given: {name of a model: weights}.
      folder: private, for uploads and the workers' files.
      ended: set by a signal.
    """
    cache = os.path.join(folder, "uploads")
    os.environ.update(QUIET, GRADIO_TEMP_DIR=cache, TMPDIR=folder)
    tempfile.tempdir = folder
    os.makedirs(cache)
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from tools.demo import page, uploads
    from tools.demo.processes import Workers

    workers = Workers(folder, options.timeout)
    blocks = page.build(page.Desk(workers, given, cache))
    # A name of another machine that leads here, as DNS rebinding has it, is refused too.
    middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=list(HERE)), Middleware(Policy)]
    try:
        _, address, _ = blocks.queue(max_size=20).launch(
            server_name=HERE[0],
            server_port=options.port,
            share=False,
            prevent_thread_lock=True,
            quiet=True,
            max_file_size=uploads.MOST_BYTES,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            run_history=False,
            enable_monitoring=False,
            footer_links=[],
            allowed_paths=[],
            app_kwargs={"middleware": middleware},
            theme=page.theme(),
            css_paths=page.CSS,
        )
        print("the page is at %s (Ctrl-C ends it)" % address, flush=True)
        ended.wait()
    except OSError as error:
        if options.port is None:
            raise
        text = "--port %d cannot be had: %s; choose another or leave the option out"
        raise UserError(text % (options.port, str(error).split(". ")[0])) from error
    finally:
        workers.close()
        blocks.close(verbose=False)


if __name__ == "__main__":
    run_program(main)
