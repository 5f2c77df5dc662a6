# SPDX-License-Identifier: Apache-2.0
"""Numbers for translations: attribute accuracy."""

from typing import Dict

import numpy as np


def attribute_accuracy(
    sources: np.ndarray, fakes: np.ndarray, own: np.ndarray, wanted: np.ndarray
) -> Dict[str, float]:
    """Returns how often a classifier sees the wanted label, where it was not there before.

    Args:
      sources: whether the classifier sees the label in the untranslated pictures, bool [M].
      fakes: the same for their translations.
      own: what the pictures' labels say.
      wanted: what the translation asks for.

    Returns:
      {"accuracy": share of translations that are seen as wanted, "accuracy_untranslated": the same
      for the pictures before, "changed": how many pictures these are shares of}; without pictures
      to change only the last.
    """
    chosen = own != wanted
    result = {"changed": float(np.sum(chosen))}
    if np.any(chosen):
        result["accuracy"] = float(np.mean(fakes[chosen] == wanted[chosen]))
        result["accuracy_untranslated"] = float(np.mean(sources[chosen] == wanted[chosen]))
    return result
