"""Which globals a pickle may name, and which make it refused."""

from __future__ import annotations

import pytest

from forebear.weights.readers.torch.pickle_globals import is_ordinary, is_refused


@pytest.mark.parametrize(
    "name",
    """
    os.system posix.system nt.system subprocess.Popen subprocess.check_output sys.exit
    builtins.eval builtins.exec builtins.getattr builtins.__import__ builtins.open __builtin__.eval
    importlib.import_module runpy.run_path shutil.rmtree socket.socket ctypes.CDLL pickle.loads
    code.InteractiveInterpreter pty.spawn webbrowser.open functools.partial operator.attrgetter
    types.FunctionType types.CodeType torch.hub.load torch.jit.load torch.load
    torch.utils.cpp_extension.load torch.storage._load_from_bytes numpy.load
    numpy.testing._private.utils.runstring cloudpickle.cloudpickle._make_function timeit.timeit
    concurrent.futures.process._ExceptionWithTraceback _io.open io.open marshal.loads pip.main
    """.split(),  # noqa: SIM905
)
def test_what_may_act_is_refused(name: str) -> None:
    assert is_refused(name)


@pytest.mark.parametrize(
    "name",
    """
    argparse.Namespace collections.OrderedDict collections.defaultdict datetime.datetime
    pathlib.PosixPath pathlib._local.PosixPath numpy.dtype numpy._core.multiarray.scalar
    numpy.core.multiarray._reconstruct omegaconf.dictconfig.DictConfig types.SimpleNamespace
    __main__.Config yacs.config.CfgNode torch.float32 torch.device torch.Size enum.Enum
    builtins.set builtins.slice __builtin__.object uuid.UUID osmodule.Config system.Settings
    torch.optim.lr_scheduler.StepLR pytorch_lightning.utilities.parsing.AttributeDict
    """.split(),  # noqa: SIM905
)
def test_classes_of_data_are_not_refused(name: str) -> None:
    assert not is_refused(name)


def test_what_every_file_has_is_not_reported() -> None:
    for name in ("torch.FloatStorage", "torch.float32", "builtins.set", "collections.Counter"):
        assert is_ordinary(name)
    for name in ("argparse.Namespace", "numpy.dtype", "__main__.Config", "torch.nn.Linear"):
        assert not is_ordinary(name)
