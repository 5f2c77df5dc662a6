# SPDX-License-Identifier: Apache-2.0
"""The worker's end of the lines of JSON that `tools.demo.processes` describes."""

import json
import os
import queue
import signal
import sys
import threading
import traceback

import numpy as np
from PIL import Image

from harness.errors import UserError
from harness.images import write_image


def serve(load) -> None:
    """Answers requests from stdin until it ends; what libraries print goes to stderr.

    Args:
      load: returns the module of the model; called with the first request.
    """
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for number in (signal.SIGTERM, signal.SIGINT):  # a run of neural style puts its own there
        signal.signal(number, lambda *_: None)
    requests = queue.Queue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()

    def send(event, **words):
        output.write(json.dumps(dict(words, event=event)) + "\n")
        output.flush()

    module = model = None
    while True:
        request = requests.get()
        try:
            if request["do"] == "open":
                module = module or load()
                model, answer = module.open_model(request["weights"]), {}
            else:
                answer = model(request, lambda **words: send("progress", **words))
            send("done", **answer)
        except UserError as error:
            send("failed", sentence=str(error))
        except MemoryError:
            send("failed", sentence="the memory is used up; take a smaller picture")
        except Exception as error:  # the page must hear of it, whatever it is
            traceback.print_exc()
            lines = [line for line in str(error).splitlines() if line.strip()]
            words = (type(error).__name__, lines[0][:200] if lines else "no reason given")
            send("failed", sentence="the model failed (%s: %s)" % words)


def _read(requests) -> None:
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "stop":
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            requests.put(request)
    os._exit(0)  # the page has ended; a step may be under way, in C


def read_picture(path: str, channels: int = 3) -> np.ndarray:
    """Returns a picture that the page wrote, uint8 [H, W, channels]."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB" if channels == 3 else "L"))
    return pixels.reshape(pixels.shape[0], pixels.shape[1], channels)


def write_picture(folder: str, name: str, pixels: np.ndarray) -> str:
    """Writes uint8 [H, W, 1 or 3] as FOLDER/NAME.png and returns the path."""
    path = os.path.join(folder, name + ".png")
    write_image(path, pixels)
    return path
