# SPDX-License-Identifier: Apache-2.0
"""Pickles read without running them: a machine that knows the operations that are only data.

A pickle is a program. This machine imports nothing and calls only what its caller gives it by name.
The operations and how their arguments are stored come from the standard library's `pickletools`.
"""

import pickletools
from typing import BinaryIO, Callable, Dict, Optional

MOST_OPERATIONS = 300000  # some 7,000 tensors
_MOST_GIVEN = 600000  # values in the arguments of all calls, which a call may copy
_IGNORED = ("PROTO", "FRAME")
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list}
_NUMBERS = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT")
_STRINGS = (
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINSTRING",
    "SHORT_BINSTRING",
)  # the last of Python 2
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_KEYS = (str, int, float, bool, type(None))  # of a dict; hashing nested tuples can take for ever
_WRONG = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError)


class RefusedError(ValueError):
    """The pickle asks for something that is not data; the message names it."""


class Global:
    """A name in a pickle: what stands for it here, `call`, or None if it is not to be called."""

    def __init__(self, name: str, call: Optional[Callable]):
        self.name, self.call = name, call


def load(stream: BinaryIO, known: Dict[str, Optional[Callable]], persistent: Callable):
    """Returns the object of the pickle that begins at the position of `stream`.

    Args:
      stream: in memory, so that no length in it can ask for more than there is.
      known: {"module name": what is called for it}.
      persistent: called with the identifier of an object that is stored outside the pickle.

    Raises:
      RefusedError: if it asks for another name or operation.
      ValueError: if it is damaged.
    """
    machine = _Machine(known, persistent)
    try:
        for _ in range(MOST_OPERATIONS):
            code = stream.read(1).decode("latin-1")
            operation = pickletools.code2op.get(code)
            if operation is None:
                raise ValueError("its pickle ends too early" if not code else "it has no pickle")
            if operation.name == "STOP":
                return machine.pop()
            machine.check(operation.name)
            machine.run(operation.name, operation.arg and operation.arg.reader(stream))
    except RefusedError:
        raise
    except _WRONG as error:
        raise ValueError("its pickle makes no sense (%s)" % error) from error
    raise RefusedError("has a pickle of more than %d operations" % MOST_OPERATIONS)


class _Machine:
    """A stack, the stacks below the marks, and what was stored under a number."""

    def __init__(self, known, persistent):
        self._known, self._persistent = known, persistent
        self._stack, self._below, self._memo, self._given = [], [], {}, 0
        self._methods = {
            "MARK": self._mark,
            "POP": self.pop,
            "TUPLE": lambda: self._push(tuple(self._since_mark())),
            "APPEND": lambda: self._extend([self.pop()]),
            "APPENDS": lambda: self._extend(self._since_mark()),
            "SETITEM": lambda: self._update([self.pop(), self.pop()][::-1]),
            "SETITEMS": lambda: self._update(self._since_mark()),
            "STACK_GLOBAL": lambda: self._name("%s %s" % tuple([self.pop(), self.pop()][::-1])),
            "REDUCE": self._call,
            "BUILD": self._leave_out_state,
            "MEMOIZE": lambda: self._memo.update({len(self._memo): self._stack[-1]}),
            "BINPERSID": lambda: self._push(self._persistent(self.pop())),
        }
        self._with_argument = {
            "GLOBAL": self._name,
            "BINGET": lambda number: self._push(self._memo[number]),
            "BINPUT": lambda number: self._memo.update({number: self._stack[-1]}),
        }
        for name in ("BINGET", "BINPUT"):
            self._with_argument["LONG_" + name] = self._with_argument[name]
        for name in _NUMBERS + _STRINGS:
            self._with_argument[name] = self._push
        self._allowed = set(_IGNORED).union(
            _CONSTANTS, _EMPTY, _TUPLES, self._methods, self._with_argument
        )

    def check(self, name):
        if name not in self._allowed:
            raise RefusedError("asks for the operation %s, which is not run" % name)

    def run(self, name, argument):
        if name in self._with_argument:
            self._with_argument[name](argument)
        elif name in self._methods:
            self._methods[name]()
        elif name in _CONSTANTS:
            self._push(_CONSTANTS[name])
        elif name in _EMPTY:
            self._push(_EMPTY[name]())
        elif name in _TUPLES:
            items = [self.pop() for _ in range(_TUPLES[name])]
            self._push(tuple(items[::-1]))

    def pop(self):
        return self._stack.pop()

    def _push(self, value):
        self._stack.append(value)

    def _mark(self):
        self._below.append(self._stack)
        self._stack = []

    def _since_mark(self):
        items, self._stack = self._stack, self._below.pop()
        return items

    def _target(self, kind):
        if type(self._stack[-1]) is not kind:
            raise TypeError("a %s is expected" % kind.__name__)
        return self._stack[-1]

    def _extend(self, items):
        self._target(list).extend(items)

    def _update(self, items):
        self._target(dict).update(checked_dict(zip(items[::2], items[1::2])))

    def _name(self, name):
        name = name.replace("\n", " ")
        if name not in self._known:
            raise RefusedError("asks for %s, which is not run" % name.replace(" ", ".", 1)[:200])
        self._push(Global(name, self._known[name]))

    def _call(self):
        arguments, function = self.pop(), self.pop()
        if type(function) is not Global or type(arguments) is not tuple:
            raise TypeError("a call of something that is not a function")
        if function.call is None:
            raise TypeError("a call of %s" % function.name)
        self._given += sum(len(one) for one in arguments if type(one) in (list, tuple))
        if self._given > _MOST_GIVEN:
            raise RefusedError("gives the calls in its pickle more than %d values" % _MOST_GIVEN)
        self._push(function.call(*arguments))

    def _leave_out_state(self):
        self.pop()  # a state_dict's `_metadata`, the versions of its modules
        self._target(dict)


def checked_dict(pairs) -> dict:
    """Returns {key: value}; TypeError where a key is no string, number or None."""
    pairs = list(pairs)
    for key, _ in pairs:
        if type(key) not in _KEYS:
            raise TypeError("a %s as a key" % type(key).__name__)
    return dict(pairs)
