# SPDX-License-Identifier: Apache-2.0
"""Which collectives of a graph are fused into one node, and that this makes no cycle."""

import weakref

from npu_double import ContractError

NEVER, ALWAYS, BY_ID = 0, 1, 2  # the values of the argument fusion
_graphs = weakref.WeakKeyDictionary()  # graph -> [(operation, name, (fusion, fusion_id))]
_checked = weakref.WeakKeyDictionary()  # graph -> how many of its collectives were checked


def check_arguments(fusion, fusion_id) -> None:
    """Raises ValueError for a fusion that HCCL does not know, or that has no number."""
    if fusion not in (NEVER, ALWAYS, BY_ID):
        raise ValueError("fusion %r: it must be 0, 1 or 2" % (fusion,))
    if fusion == BY_ID and fusion_id < 0:
        raise ValueError("fusion 2 with fusion_id %r: it must be at least 0" % (fusion_id,))


def note(operation, name: str, group: tuple) -> None:
    """Takes note of a collective; group: (fusion, fusion_id)."""
    _graphs.setdefault(operation.graph, []).append((operation, name, group))


def count(graph) -> int:
    """Returns how many collectives a graph has."""
    return len(_graphs.get(graph, ()))


def check(graph) -> None:
    """Checks a graph that is about to run, if it has new collectives.

    Raises:
      ContractError: if two that are fused depend on each other: their one node would be in a cycle.
    """
    if _checked.get(graph, 0) == count(graph):
        return
    _checked[graph] = count(graph)
    groups = {}
    for operation, name, (fusion, fusion_id) in _graphs[graph]:
        if fusion != NEVER:
            key = (name, fusion, fusion_id if fusion == BY_ID else 0)
            groups.setdefault(key, []).append(operation)
    for (name, fusion, fusion_id), operations in groups.items():
        met = _needed(operations).intersection(operations)
        if met:
            text = "%d %s with fusion=%d, fusion_id=%d are one node, but %s is needed by another"
            names = ", ".join(sorted(operation.name for operation in met))
            raise ContractError(text % (len(operations), name, fusion, fusion_id, names))


def _needed(operations) -> set:
    """Returns all operations that some of `operations` need, directly or not."""
    found, left = set(), list(operations)
    while left:
        operation = left.pop()
        before = [tensor.op for tensor in operation.inputs] + list(operation.control_inputs)
        left += [one for one in before if one not in found]
        found.update(before)
    return found
