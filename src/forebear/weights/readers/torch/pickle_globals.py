"""What happens to each global that a torch pickle asks for. None of them is ever imported.

Three kinds: a few functions of torch and classes of plain containers, whose effect `pickle_tree`
imitates; globals whose call could do something, for which the file is refused; and all others,
which are classes of data in files that trainers write. Those stay unbuilt.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


DICTS = frozenset(
    {
        "collections.OrderedDict",
        "collections.Counter",
        "collections.defaultdict",
        "builtins.dict",
        "__builtin__.dict",
    }
)
# The first one was used before torch 0.4, the last one is used for newer dtypes.
TENSORS = frozenset(f"torch._utils._rebuild_tensor{version}" for version in ("", "_v2", "_v3"))
PARAMETERS = frozenset(
    {"torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"}
)
PARAMETER = "torch.nn.parameter.Parameter"
TENSOR_TYPES = frozenset({PARAMETER, "torch.Tensor", "torch._tensor.Tensor"})
FROM_TYPE = "torch._tensor._rebuild_from_type_v2"  # a tensor that has attributes
SIZE = "torch.Size"
ORDINARY = frozenset(
    {
        *DICTS,
        *TENSORS,
        *PARAMETERS,
        *TENSOR_TYPES,
        FROM_TYPE,
        SIZE,
        "_codecs.encode",  # bytes in older protocols
        "copyreg._reconstructor",
        "copy_reg._reconstructor",
        "torch.device",
        "torch.storage.UntypedStorage",
        "torch.serialization._get_layout",
    }
)
_PLAIN = _words(
    """
    set frozenset dict list tuple slice complex bytearray bytes range xrange object int long float
    bool str unicode
    """
)
_BUILTINS = ("builtins", "__builtin__")
# Python 3.11.0 to 3.11.3 pickle a member of an Enum as a call of it with the class and the name.
MEMBER = frozenset(f"{module}.getattr" for module in _BUILTINS)
# Classes of data in modules that are refused otherwise.
_DATA = frozenset(
    {
        "types.SimpleNamespace",
        "signal.Signals",
        "uuid.UUID",
        "inspect._ParameterKind",
    }
)
# Modules that run programs, code or other files, or call what they are given.
_REFUSED_MODULES = _words(
    """
    os posix posixpath nt ntpath sys subprocess _posixsubprocess popen2 commands pty platform
    importlib _frozen_importlib _frozen_importlib_external imp runpy pkgutil zipimport
    shutil tempfile glob fileinput io _io _pyio mmap socket _socket ssl select asyncio
    ctypes _ctypes cffi pickle _pickle cPickle dill cloudpickle joblib marshal shelve copy
    code codeop pdb bdb trace timeit profile cProfile doctest unittest pydoc inspect gc
    webbrowser antigravity http httplib urllib urllib2 requests ftplib smtplib poplib imaplib
    telnetlib xmlrpc socketserver SocketServer pip setuptools distutils ensurepip venv site
    functools _functools operator _operator types itertools multiprocessing concurrent
    threading _thread thread signal atexit sched weakref sqlite3 logging.config lib2to3
    numpy.testing numpy.f2py numpy.distutils numpy.lib torch.hub torch.jit torch.package
    torch.utils torch.ops torch.classes torch.multiprocessing torch._dynamo torch._inductor
    torch.fx torch.distributed.rpc torch.onnx torch.testing torch.serialization
    """
)
_REFUSED = frozenset(
    {
        "torch.load",
        "torch.compile",
        "torch.storage._load_from_bytes",
        "torch.load_library",
        "numpy.load",
        "numpy.fromfile",
        "numpy.memmap",
        "numpy.core.memmap",
        "numpy._core.memmap",
        "codecs.open",
        "linecache.getline",
        "pathlib.Path.unlink",
    }
)


def is_refused(name: str) -> bool:
    """Whether a file is refused because it asks for a global: one that may act when it is called.

    Args:
        name: Module and name, with dots: "posix.system".
    """
    module, _, last = name.rpartition(".")
    if module in _BUILTINS:
        return last not in _PLAIN
    if name in _DATA or name in ORDINARY:
        return False
    parts = name.split(".")
    parents = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
    return name in _REFUSED or not parents.isdisjoint(_REFUSED_MODULES)


def is_ordinary(name: str) -> bool:
    """Whether a global is a part of most files of torch, so that nobody asks what it was."""
    module, _, last = name.rpartition(".")
    if module in _BUILTINS or name in ORDINARY:
        return True
    return module in ("torch", "torch.cuda") and (last.endswith("Storage") or last.islower())
