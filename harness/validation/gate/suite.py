"""The suite: ten cases of this repository from 30 µs to 20 ms, chosen once for all trials.

Each is one implementation at one workload whose agreement is cheap to judge, so that the seconds of a trial
go into its measuring. A page of their own in the clone takes them from the pages of ``cases``, which hold
what is timed.
"""

from __future__ import annotations

from dataclasses import dataclass

FOLDER = "suite"
# The name of every implementation that is timed; the references stand beside them and are not.
TIMED = "timed"
PATTERN = f"*/{TIMED}/*/float32/cpu/forward"


@dataclass(frozen=True)
class Entry:
    """One case. page: its module below ``cases``. function: what computes it there, from x [B, C, H, W]."""

    page: str
    scope: str
    implementation: str
    function: str
    workload: str

    @property
    def operator(self) -> str:
        """The name of the operator, which is that of its page."""
        return self.page.rpartition(".")[2]

    @property
    def case(self) -> str:
        """The name of the case in the clone."""
        workload = self.workload.replace("/", "-")
        return f"{self.operator}/{self.scope}/{TIMED}/{workload}/float32/cpu/forward"

    @property
    def file(self) -> str:
        """The path of the page in a repository."""
        return f"cases/{self.page.replace('.', '/')}.py"


SUITE = (
    Entry("gates.squeeze_excite", "core", "authors", "authors", "se_resnet50/stage2"),
    Entry("gates.gather_excite", "module", "cells", "module_tiled", "ge_resnet50/stage4"),
    Entry("convolution.depthwise_conv2d", "core", "authors", "authors", "dwnet_t/stage4"),
    Entry("attention.window_attention", "core", "authors", "authors", "swin_t/stage3"),
    Entry("mlp.spatial_mixing_mlp", "module", "linear", "module_linear", "mixer_s32/layer"),
    Entry("attention.self_attention", "module", "sdpa", "sdpa", "deit_ti16/224"),
    Entry("convolution.multiscale_conv2d", "core", "joined", "joined", "res2net50_26w_4s/stage1"),
    Entry("attention.shifted_window_attention", "module", "sdpa", "sdpa", "swin_t/stage2_shifted"),
    Entry("convolution.bottleneck", "module", "matmul", "module_matmul", "resnet50/stage1"),
    Entry("mlp.channel_mlp", "module", "authors", "module_authors", "vit_b32/384"),
)

_PAGE = '''"""The suite: one implementation at one workload of each of a few pages."""

from dataclasses import replace
from importlib import import_module

from harness import Operator

ENTRIES = [
{entries}]


def take(page, scope, implementation, workload):
    """Return the operator of a page with one scope, one workload and one implementation."""
    found = import_module("cases." + page).operator
    operator = Operator(found.name, family=found.family, source=found.source)
    whole = found.scopes[scope]
    timed = replace(whole.implementations[implementation], name="{timed}")
    operator.scopes[scope] = replace(
        whole,
        operator=operator,
        workloads=[whole.workload(workload)],
        implementations={{"reference": whole.reference, "{timed}": timed}},
    )
    return operator


OPERATORS = [take(*entry) for entry in ENTRIES]
'''
_PROJECT = f"""[project]
name = "suite"
version = "0"

[tool.sameop]
cases = ["{FOLDER}"]
"""


def files() -> dict[str, str]:
    """Return what the clone holds beside ``cases``, by path."""
    entries = "".join(
        f"    {(entry.page, entry.scope, entry.implementation, entry.workload)!r},\n" for entry in SUITE
    )
    return {
        "pyproject.toml": _PROJECT,
        f"{FOLDER}/__init__.py": '"""What is timed."""\n',
        f"{FOLDER}/operators.py": _PAGE.format(entries=entries, timed=TIMED),
    }
