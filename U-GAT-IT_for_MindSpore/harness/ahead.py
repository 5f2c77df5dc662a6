# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/harness/ahead.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""Work done ahead of the training step, so that the step does not wait for its data."""

import concurrent.futures
import time
from typing import Callable


class Ahead:
    """Calls `function(step)` for the coming steps in background threads.

    `ahead(step)` returns what `function(step)` returns (or raises what it raised); the results for
    the next `depth` steps are being made meanwhile. `function` must depend on the step alone.

    Attributes:
      waited: seconds that calls have spent waiting for a result so far.
    """

    def __init__(self, function: Callable, last_step: int, depth: int = 3):
        self._function, self._last_step, self._depth = function, last_step, depth
        self._pool = concurrent.futures.ThreadPoolExecutor(max_workers=2)
        self._coming = {}
        self.waited = 0.0

    def __call__(self, step: int):
        """Returns `function(step)`; begins those of the next steps."""
        for coming in range(step, min(step + self._depth, self._last_step) + 1):
            if coming not in self._coming:
                self._coming[coming] = self._pool.submit(self._function, coming)
        begin = time.perf_counter()
        result = self._coming.pop(step).result()
        self.waited += time.perf_counter() - begin
        return result

    def close(self) -> None:
        """Ends the threads; results nobody fetched are dropped."""
        for future in self._coming.values():
            future.cancel()
        self._pool.shutdown()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()
