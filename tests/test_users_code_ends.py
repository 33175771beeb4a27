"""A user's code that ends the process, raises what is no Exception, or has tensors that no file takes: one sentence."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Answer

from edgeattn.errors import BadInputError
from edgeattn.export.user_code import contained

Command = Callable[..., Answer]
HEAD = """
import os, sys, torch
from torch import nn
class Odd(BaseException): pass
class Mute(BaseException):
    def __str__(self): raise ValueError("no text")
def do(what): exec(what, globals())
class M(nn.Module):
    def __init__(self, what=""):
        super().__init__()
        self.l, self.what = nn.Conv2d(3, 4, 1), what
    def forward(self, x):
        do(self.what)
        return self.l(x)
X = torch.rand(1, 3, 4, 4)
"""
ENDS = [
    ("raise Odd('mine')", "Odd: mine"),
    ("raise GeneratorExit('gone')", "GeneratorExit: gone"),
    ("raise Mute()", "Mute"),
    ("sys.exit(7)", "SystemExit: 7"),
    ("sys.exit()", "SystemExit"),
    ("os._exit(0)", "os._exit(0) would end the process"),
    ("try:\n  os._exit(5)\nexcept Exception: pass", "os._exit(5) would end the process"),
]


@pytest.mark.parametrize(("what", "said"), ENDS)
@pytest.mark.parametrize("place", ["forward", "factory", "import"])
def test_code_that_ends(place: str, what: str, said: str, tmp_path: Path, edgeattn: Command) -> None:
    at = {"import": f"do({what!r})", "forward": "", "factory": ""}[place]
    call = f"do({what!r})" if place == "factory" else "pass"
    model = f"M({what!r})" if place == "forward" else "M()"
    text = f"{HEAD}\n{at}\ndef make():\n    {call}\n    return {model}.eval(), X\n"
    (tmp_path / "m.py").write_text(text)
    answer = edgeattn("export", f"{tmp_path / 'm.py'}:make", "--format", "onnx", "--out", tmp_path / "b")
    assert answer.code == 2, answer.err
    assert said in answer.err
    assert "Traceback" not in answer.err
    assert not (tmp_path / "b").exists()


def test_an_interrupt_stays_one(tmp_path: Path, edgeattn: Command) -> None:
    (tmp_path / "m.py").write_text(f"{HEAD}\ndef make(): return M('raise KeyboardInterrupt').eval(), X\n")
    answer = edgeattn("export", f"{tmp_path / 'm.py'}:make", "--format", "onnx", "--out", tmp_path / "b")
    assert answer.code == 130


# Threads of a converter that another test left running, which this child does not touch.
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_forked_process_may_end() -> None:
    import os

    original = os._exit
    with contained():
        child = os.fork()
        if not child:
            os._exit(3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    with pytest.raises(BadInputError, match="would end the process"), contained():
        os._exit(0)
    assert os._exit is original


TENSORS = [
    ("M().eval(), X.to('meta')", "on the meta device"),
    ("M().eval().to('meta'), X", "meta"),
    ("M().eval(), X.to(torch.complex64)", "is complex"),
    ("M().eval(), X.to_sparse()", "is sparse"),
    ("M().eval(), torch.quantize_per_tensor(X, 0.1, 0, torch.quint8)", "is quantised"),
    ("M().eval(), torch.nested.nested_tensor([torch.rand(3), torch.rand(4)])", "is nested"),
    ("M().eval(), {'x': X.to('meta')}", "on the meta device"),
    ("C().eval(), X", "output 0 of the module is complex"),
    ("S().eval(), X", "output 0 of the module is sparse"),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("returned", "said"), TENSORS)
def test_tensors_that_no_file_takes(returned: str, said: str, tmp_path: Path, edgeattn: Command) -> None:
    more = "\nclass C(nn.Module):\n    def forward(self, x): return x.to(torch.complex64)"
    more += "\nclass S(nn.Module):\n    def forward(self, x): return x.to_sparse()"
    (tmp_path / "m.py").write_text(f"{HEAD}{more}\ndef make(): return {returned}\n")
    answer = edgeattn("export", f"{tmp_path / 'm.py'}:make", "--format", "onnx", "--out", tmp_path / "b")
    assert answer.code == 2, answer.err
    assert said in answer.err
    assert "Traceback" not in answer.err


def test_bfloat16_is_exported(tmp_path: Path, edgeattn: Command) -> None:
    """Of the module, of the inputs, and of both."""
    (tmp_path / "m.py").write_text(
        f"{HEAD}\ndef a(): return M().eval(), X.bfloat16()\ndef b(): return M().eval().bfloat16(), X.bfloat16()\n"
    )
    for name in "ab":
        answer = edgeattn("export", f"{tmp_path / 'm.py'}:{name}", "--format", "onnx", "--out", tmp_path / name)
        assert answer.code == 0, answer.err
