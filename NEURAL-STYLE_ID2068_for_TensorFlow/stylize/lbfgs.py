# SPDX-License-Identifier: Apache-2.0
"""L-BFGS, the paper's optimiser: SciPy's, one iteration at a time."""

import queue
import threading

import numpy as np
from scipy import optimize


class _ClosedError(Exception):
    """Ends SciPy's loop from inside."""


def iterations(evaluate, start: np.ndarray, corrections: int = 10):
    """Yields x, float64 [D], after each iteration; ends when no step lowers the loss any more.

    SciPy's loop runs in a thread of its own that works only while the next x is waited for.

    Args:
      evaluate: x -> (loss, gradient float64 [D]).
      start: float64 [D].
      corrections: pairs of steps and gradients that the curvature is estimated from.
    """
    results, turn, closed = queue.Queue(), threading.Semaphore(0), []

    def hand_over(x):
        results.put(x.copy())
        turn.acquire()
        if closed:
            raise _ClosedError

    def work():
        turn.acquire()
        options = {"maxcor": corrections, "ftol": 0, "gtol": 0}
        options.update(maxiter=2**31 - 1, maxfun=2**31 - 1)
        try:
            words = {"jac": True, "method": "L-BFGS-B", "callback": hand_over}
            optimize.minimize(evaluate, start, options=options, **words)
            results.put(None)
        except _ClosedError:
            pass
        except BaseException as error:  # raised again where the next x is waited for
            results.put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            turn.release()
            result = results.get()
            if result is None:
                return
            if isinstance(result, BaseException):
                raise result
            yield result
    finally:
        closed.append(True)
        turn.release()
        thread.join()


class Lbfgs:
    """L-BFGS on the picture of a step graph.

    Every `restart` steps it begins anew, without the curvature found so far: so a run that goes on
    from a state saved there ends like one that was never stopped.

    Args:
      evaluate: float32 [1, H, W, 3] -> ({name: loss}, gradient); loss "total" is what falls.
      read: () -> the picture, float32 [1, H, W, 3].
      write: takes the picture after a step.
      restart: steps between fresh starts; 0 is never.
    """

    def __init__(self, evaluate, read, write, restart):
        self._evaluate, self._read, self._write, self._restart = evaluate, read, write, restart
        self._iterations, self._shape = None, None
        self._tried, self._losses = {}, {}  # of the last evaluation, and of the picture

    def _loss_and_gradient(self, x):
        losses, gradient = self._evaluate(x.reshape(self._shape).astype(np.float32))
        self._tried = losses
        return float(losses["total"]), gradient.astype(np.float64).ravel()

    def step(self, step: int) -> dict:
        """Makes step number `step` and returns the losses after it."""
        if self._iterations is None or (self._restart and (step - 1) % self._restart == 0):
            self.close()
            start = self._read()
            self._shape = start.shape
            self._iterations = iterations(self._loss_and_gradient, start.astype("d").ravel())
        x = next(self._iterations, None)
        if x is not None:  # else no step lowers the loss, until the next fresh start at least
            self._write(x.reshape(self._shape).astype(np.float32))
            self._losses = self._tried
        return self._losses or self._tried

    def close(self) -> None:
        """Ends SciPy's thread."""
        if self._iterations is not None:
            self._iterations.close()
