# SPDX-License-Identifier: Apache-2.0
"""Makes the modules of npu_bridge from the table: simulated names, and stand-ins for the rest."""

import ast
import functools
import importlib
import importlib.abc
import importlib.machinery
import inspect
import sys
import types

from npu_double import table
from npu_double.record import Inside, record

CANNOT_IMPORT = {"npu_bridge._api.experimental": "it imports a package under a misspelt name"}
SIMULATED = {  # name in npu_bridge -> the module of the double that has it
    "npu_loss_scale_manager.LossScaleManager": "loss_scale",
    "npu_loss_scale_manager.FixedLossScaleManager": "loss_scale",
    "npu_loss_scale_manager.ExponentialUpdateLossScaleManager": "loss_scale",
    "npu_loss_scale_optimizer.NPULossScaleOptimizer": "loss_scale",
    "npu_optimizer.NPUDistributedOptimizer": "collectives",
    "npu_plugin.is_inf_nan_enabled": "loss_scale",
    "hccl_ops.allreduce": "collectives",
    "hccl_ops.broadcast": "collectives",
    "npu_init.npu_tf_optimizer": "collectives",
}


class NpuModule(types.ModuleType):
    """A module of npu_bridge."""


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules that the release has."""

    def find_spec(self, fullname, path=None, target=None):
        """Returns the spec of a module of npu_bridge; None for other packages.

        Raises:
          ModuleNotFoundError: if the release does not have it.
        """
        if not fullname.startswith("npu_bridge."):
            return None
        release = table.release()
        known = table.modules(release)
        is_package = any(name.startswith(fullname + ".") for name in known)
        if fullname not in known and not is_package:
            text = "npu_bridge %s has no module %s" % (release, fullname)
            raise ModuleNotFoundError(text, name=fullname)
        return importlib.machinery.ModuleSpec(fullname, self, is_package=is_package)

    def create_module(self, spec):
        """Returns an empty module."""
        return NpuModule(spec.name)

    def exec_module(self, module):
        """Fills the module."""
        name = module.__name__
        if name in CANNOT_IMPORT:
            raise ImportError("%s cannot be imported: %s" % (name, CANNOT_IMPORT[name]))
        entries = table.modules(table.release()).get(name, {})
        own = [word for word in entries if word and "." not in word]
        for word in own:
            setattr(module, word, _make(name, word, entries))
        # The real modules have no __all__; what they re-export is made here when it is asked for.
        module.__all__ = own + table.exports(table.release()).get(name, [])
        module.__getattr__ = attributes_of(name)
        if name == "npu_bridge.npu_init":
            record(name + ": import")
            importlib.import_module("npu_double.sessions").npu_init_is_imported()


def start() -> None:
    """Makes npu_bridge importable and begins to watch sessions; npu_bridge itself calls it."""
    table.release()
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.append(Finder())
    importlib.import_module("npu_double.sessions").watch()


def stop() -> None:
    """Undoes `start` and forgets the modules, for another release in the same process."""
    importlib.import_module("npu_double.sessions").unwatch()
    importlib.import_module("npu_double.loss_scale").clear_status()
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, Finder)]
    for name in list(sys.modules):
        if name.split(".")[0] == "npu_bridge":
            del sys.modules[name]


def attributes_of(module: str):
    """Returns the __getattr__ of a module: what it re-exports, else an AttributeError."""

    def find(name):
        release = table.release()
        if name in table.exports(release).get(module, ()):
            for other, entries in sorted(table.modules(release).items()):
                if other.split(".")[-1] == name:
                    return importlib.import_module(other)
                if name in entries and other != module and not entries[name].startswith("="):
                    return getattr(importlib.import_module(other), name)
            return _unknown_signature(module, name)
        raise AttributeError("npu_bridge %s: %s has no %s" % (release, module, name))

    return find


def _unknown_signature(module, name):
    """Returns what stands for a re-exported name from outside npu_bridge."""

    def call(*words, **options):
        text = "%s re-exports %s from elsewhere; the double does not simulate it"
        raise NotImplementedError(text % (module, name))

    call.__name__ = name
    return call


def _make(module, name, entries):
    """Returns the object for an entry of the table."""
    entry, dotted = entries[name], "%s.%s" % (module, name)
    home = SIMULATED.get(".".join(dotted.split(".")[-2:]))
    body = getattr(importlib.import_module("npu_double." + home), name) if home else None
    if entry.startswith("= "):
        return _constant(entry[2:])
    if entry.startswith("class"):
        return _make_class(dotted, entries, name, body)
    return _function(dotted, table.signature(entry), body)


def _constant(text):
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return table.Expression(text)


def bind(call: str, signature, words, options) -> dict:
    """Returns {name: value} of a call's arguments.

    Raises:
      TypeError: if the signature of the release does not take them.
    """
    try:
        return signature.bind(*words, **options).arguments
    except TypeError as error:
        text = "npu_bridge %s: %s%s: %s"
        raise TypeError(text % (table.release(), call, signature, error)) from None


def _function(call, signature, body):
    def run(*words, **options):
        record(call, bind(call, signature, words, options))
        if body is None:
            raise NotImplementedError("the double does not simulate %s" % call)
        with Inside(call):
            return body(*words, **options)

    run.__name__ = run.__qualname__ = call.split(".")[-1]
    run.__signature__, run.__doc__ = signature, "As of npu_bridge."
    return run


def _method(call, signature, body):
    """Returns the method; `signature` is None where TensorFlow's own class defines it."""

    def run(self, *words, **options):
        arguments = bind(call, signature, words, options) if signature else {}
        record(call, arguments)
        if body is None:
            raise NotImplementedError("the double does not simulate %s" % call)
        with Inside(call):
            return body(self, *words, **options)

    return functools.wraps(body)(run) if body else run


def _make_class(dotted, entries, name, body):
    """Returns a class whose constructor and methods check and record their arguments."""
    members = {"__module__": dotted.rsplit(".", 1)[0], "npu_name": dotted}
    if body is None:
        for word, entry in entries.items():
            if word.startswith(name + "."):
                short = word.split(".", 1)[1]
                is_method = entry.startswith("(")
                signature = table.signature(entry) if is_method else None
                value = _constant(entry[2:]) if entry.startswith("= ") else None
                members[short] = _method(word, signature, None) if is_method else value
    else:
        for word, method in vars(body).items():
            if callable(method) and not word.startswith("_"):
                entry = entries.get("%s.%s" % (name, word))
                signature = table.signature(entry) if entry else None
                members[word] = _method("%s.%s" % (dotted, word), signature, method)
    entry = entries[name]
    signature = table.signature(entry) if "(" in entry else None
    members["__init__"] = _constructor(dotted, signature, body)
    return type(name, (body or object,), members)


def _constructor(call, signature, body):
    def __init__(self, *words, **options):  # noqa: N807
        record(call, bind(call, signature, words, options) if signature else {})
        if body is None:
            raise NotImplementedError("the double does not simulate %s" % call)
        with Inside(call):
            body.__init__(self, *words, **options)

    if signature:
        own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        parameters = [own] + list(signature.parameters.values())
        __init__.__signature__ = signature.replace(parameters=parameters)
    return __init__
