"""Little git repositories for the gate, whose head is slower than their base, each in its own way."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Self

from harness.tests.projects import PAGE, implementation

# Nobody to ask for a name or a signature in a test.
_AUTHOR = ["-c", "user.name=me", "-c", "user.email=me@example.com", "-c", "commit.gpgsign=false"]


@dataclass(frozen=True)
class Repo:
    """A git repository on disk."""

    root: Path

    @classmethod
    def make(cls, root: Path) -> Self:
        """Make an empty one."""
        root.mkdir(parents=True)
        repo = cls(root)
        repo.git("init", "--quiet", "--initial-branch=main")
        return repo

    def git(self, *arguments: str) -> str:
        """Run git in it and return what it printed."""
        done = subprocess.run(
            ["git", *_AUTHOR, *arguments], cwd=self.root, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def write(self, files: Mapping[str, str]) -> None:
        """Write files by their paths."""
        for name, content in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")

    def commit(self, message: str) -> str:
        """Commit all that differs, and return the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "-m", message)
        return self.git("rev-parse", "HEAD")


# How long the slow part of an operator takes on each side, on the clock that stands still while others run.
BASE_NANOSECONDS, HEAD_NANOSECONDS = 400_000, 800_000

_CLOCK = """
from time import thread_time_ns


def burn(nanoseconds):
    end = thread_time_ns() + nanoseconds
    while thread_time_ns() < end:
        pass
"""
_WORK = "from lib.clock import burn\n\n\ndef work():\n    burn(COST)\n"


@dataclass(frozen=True)
class Way:
    """A way by which an operator reaches its slow part.

    call: what the operator does. before: what its page does beforehand. files: of the project's package; COST
    stands for what differs between the sides.
    """

    call: str
    before: str = ""
    files: Mapping[str, str] = field(default_factory=dict)


WAYS = {
    "absolute_import": Way(
        "absolute()", "from lib.absolute import work as absolute", {"lib/absolute.py": _WORK}
    ),
    "relative_import": Way("relative()", "from .beside import work as relative", {"pages/beside.py": _WORK}),
    "lazy_import": Way("import lib.lazy\nlib.lazy.work()", files={"lib/lazy.py": _WORK}),
    "import_by_name": Way(
        "import importlib\nimportlib.import_module('lib.by_name').work()", files={"lib/by_name.py": _WORK}
    ),
    "lazy_attribute": Way(
        "lib.attribute.work()",
        "import lib",
        {
            "lib/__init__.py": (
                "import importlib\n\n\n"
                "def __getattr__(name):\n    return importlib.import_module('lib.' + name)\n"
            ),
            "lib/attribute.py": _WORK,
        },
    ),
    "namespace_package": Way("import spread.work\nspread.work.work()", files={"spread/work.py": _WORK}),
    "discovered_module": Way(
        "discovered()",
        """
        import importlib
        import pkgutil
        import lib.plugins

        for _found in pkgutil.iter_modules(lib.plugins.__path__):
            discovered = importlib.import_module("lib.plugins." + _found.name).work
        """,
        {"lib/plugins/__init__.py": "", "lib/plugins/one.py": _WORK},
    ),
    "alias_of_a_module": Way(
        "import lib_alias\nlib_alias.work()",
        "import lib.alias",
        {"lib/alias.py": _WORK + "\n\nimport sys\n\nsys.modules['lib_alias'] = sys.modules[__name__]\n"},
    ),
    "entry_point": Way(
        "found()()",
        """
        import functools
        from importlib.metadata import entry_points

        @functools.cache
        def found():
            (entry,) = entry_points(group="lib.work")
            return entry.load()
        """,
        {
            "lib-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: lib\nVersion: 1.0\n",
            "lib-1.0.dist-info/entry_points.txt": "[lib.work]\none = lib.takes_COST:work\n",
            "lib/takes_COST.py": _WORK,
        },
    ),
    "data_file": Way(
        "burn(int(files('lib').joinpath('cost.txt').read_text()))",
        "from importlib.resources import files\nfrom lib.clock import burn",
        {"lib/cost.txt": "COST"},
    ),
    "file_where_the_user_stands": Way(
        "burn(int(Path('settings.txt').read_text()))",
        "from pathlib import Path\nfrom lib.clock import burn",
        {"settings.txt": "COST"},
    ),
    "pickled_name": Way(
        "import pickle\npickle.loads(b'clib.pickled\\nwork\\n.')()", files={"lib/pickled.py": _WORK}
    ),
    "registry": Way(
        "REGISTRY['work']()",
        "import lib.registered\nfrom lib.registry import REGISTRY",
        {
            "lib/registry.py": "REGISTRY = {}\n",
            "lib/registered.py": f"from lib.registry import REGISTRY\n{_WORK}\n\nREGISTRY['work'] = work\n",
        },
    ),
    "registry_of_the_interpreter": Way(
        "'x'.encode('lib_work')",
        "import lib.codec",
        {
            "lib/codec.py": (
                f"import codecs\n{_WORK}\n\n"
                "def encode(text, errors='strict'):\n    work()\n    return b'', len(text)\n\n\n"
                "def find(name):\n"
                "    return codecs.CodecInfo(encode, None) if name == 'lib_work' else None\n\n\n"
                "codecs.register(find)\n"
            )
        },
    ),
    "patched_third_party": Way(
        "import numpy\nnumpy.sinc(0.0)",
        "import lib.patch",
        {"lib/patch.py": f"import numpy\n{_WORK}\n\nnumpy.sinc = lambda x: work()\n"},
    ),
    "custom_operator": Way(
        "torch.ops.lib.work(x.detach())",
        "import torch\nimport lib.operator",
        {
            "lib/operator.py": (
                "import torch\nfrom lib.clock import burn\n\n\n"
                "@torch.library.custom_op('lib::work', mutates_args=())\n"
                "def work(x: torch.Tensor) -> torch.Tensor:\n    burn(COST)\n    return x.clone()\n"
            )
        },
    ),
    "operator_of_a_library": Way(
        "torch.ops.lib_plain.work(x.detach())",
        "import torch\nimport lib.library",
        {
            "lib/library.py": (
                "import torch\nfrom lib.clock import burn\n\n\n"
                "def work(x):\n    burn(COST)\n    return x.clone()\n\n\n"
                "LIBRARY = torch.library.Library('lib_plain', 'DEF')\n"
                "LIBRARY.define('work(Tensor x) -> Tensor')\n"
                "LIBRARY.impl('work', work, 'CPU')\n"
            )
        },
    ),
    "name_of_a_backend": Way(
        "translated(x.detach())",
        """
        import torch
        import lib.backend

        translated = torch.compile(lambda x: x * 2, backend="lib_backend")
        """,
        {
            "lib/backend.py": (
                "from torch._dynamo import register_backend\nfrom lib.clock import burn\n\n\n"
                "@register_backend(name='lib_backend')\n"
                "def lib_backend(graph, inputs):\n"
                "    def run(*arguments):\n        burn(COST)\n        return graph(*arguments)\n\n"
                "    return run\n"
            )
        },
    ),
    "cache_of_a_compiler": Way(
        "load()()",
        "from lib.cached import load",
        {
            "lib/cached.py": """
import functools
import os
import runpy
from pathlib import Path

# Compilers keep what they made under a name, as `torch.utils.cpp_extension.load` does.
KEPT = Path(os.environ["TORCH_EXTENSIONS_DIR"]) / "lib_work" / "work.py"
WORK = "from lib.clock import burn\\ndef work():\\n    burn(COST)\\n"


@functools.cache
def load():
    if not KEPT.exists():
        KEPT.parent.mkdir(parents=True)
        KEPT.write_text(WORK)
    return runpy.run_path(str(KEPT))["work"]
"""
        },
    ),
}


def make_project(root: Path, ways: Mapping[str, Way], settings: str = "") -> Repo:
    """Write a project whose operator has one implementation per way; it is slower at HEAD than at HEAD~1."""
    repo = Repo.make(root)
    forms = [implementation(name, f"{way.call}\nreturn x * factor", way.before) for name, way in ways.items()]
    repo.write(
        {
            "pyproject.toml": '[tool.sameop]\ncases = ["pages"]\n',
            "sameop-gate.toml": settings,
            ".gitignore": "*.so\n",
            "lib/clock.py": _CLOCK,
            "pages/scale.py": PAGE + "\n".join(forms),
        }
    )
    for nanoseconds in (BASE_NANOSECONDS, HEAD_NANOSECONDS):
        for old in root.glob("lib/takes_*.py"):
            old.unlink()
        for way in ways.values():
            repo.write(
                {_fill(name, nanoseconds): _fill(text, nanoseconds) for name, text in way.files.items()}
            )
        repo.commit(f"takes {nanoseconds} ns")
    return repo


def _fill(text: str, nanoseconds: int) -> str:
    return text.replace("COST", str(nanoseconds))


_SPIN = """
#include <time.h>

static long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return time.tv_sec * 1000000000L + time.tv_nsec;
}

static void spin(long nanoseconds) {
    long end = now() + nanoseconds;
    while (now() < end) {
    }
}
"""
COMPILED_WAYS = {
    "library_by_path": Way(
        "library.work()",
        """
        import ctypes
        from pathlib import Path
        import lib

        library = ctypes.CDLL(str(Path(lib.__file__).parent / "libwork.so"))
        """,
        {"lib/__init__.py": "", "src/work.c": f"{_SPIN}\nvoid work(void) {{ spin(COSTL); }}\n"},
    ),
    "extension_module": Way(
        "extension.work()",
        "from lib import extension",
        {
            "src/extension.c": f"""
#define PY_SSIZE_T_CLEAN
#include <Python.h>
{_SPIN}
static PyObject *work(PyObject *self, PyObject *none) {{
    spin(COSTL);
    Py_RETURN_NONE;
}}

static PyMethodDef methods[] = {{{{"work", work, METH_NOARGS, ""}}, {{0}}}};
static struct PyModuleDef module = {{PyModuleDef_HEAD_INIT, "extension", "", -1, methods}};

PyMODINIT_FUNC PyInit_extension(void) {{ return PyModule_Create(&module); }}
""",
        },
    ),
}
_INCLUDE = "$(python -c 'import sysconfig; print(sysconfig.get_path(\\\"include\\\"))')"
COMPILED_SETTINGS = f"""
build = [
    "cc -O1 -shared -fPIC -o lib/libwork.so src/work.c",
    "cc -O1 -shared -fPIC -I{_INCLUDE} -o lib/extension.so src/extension.c",
]
"""

_VERSION = "Metadata-Version: 2.1\nName: dep\nVersion: COST\n"
VENDORED_WAYS = {
    "vendored_package": Way(
        "dep.work()",
        "import dep",
        {"vendor/dep/__init__.py": _WORK, "vendor/dep-1.0.dist-info/METADATA": _VERSION},
    ),
    "version_of_a_package": Way(
        "burn(cost)",
        """
        from importlib.metadata import version
        from lib.clock import burn

        cost = int(version("dep"))
        """,
    ),
}
VENDORED_SETTINGS = 'paths = ["vendor", "."]\n'


def also_imported_by_torch(module: ModuleType) -> dict[str, Way]:
    """Return the way of a vendored copy of a module that is imported wherever torch is."""
    assert module.__file__ is not None
    source = Path(module.__file__).read_text(encoding="utf-8")
    name = module.__name__
    way = Way(
        f"burn({name}.NANOSECONDS)",
        f"import {name}\nfrom lib.clock import burn",
        {f"vendor/{name}.py": f"{source}\n\nNANOSECONDS = COST\n"},
    )
    return {"module_of_torch": way}


# What `pip install --editable` leaves behind: whatever nothing else has comes from the user's worktree.
EDITABLE = """
import sys
from importlib.machinery import PathFinder


class Editable:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return PathFinder.find_spec(name, [ROOT])


sys.meta_path.append(Editable)
"""
EDITABLE_WAYS = {
    "lazy_import": WAYS["lazy_import"],
    "only_in_the_worktree": Way("import generated\ngenerated.work()"),
}
SOURCE_WAYS = {
    "package_in_src": Way("work()", "from own import work", {"src/own/__init__.py": _WORK}),
}


def install_copy(repo: Repo, folder: str, site: Path) -> Path:
    """Install the packages of a folder as `pip install .` does, and return where they lie then."""
    shutil.copytree(repo.root / folder, site)
    record = "".join(f"{path.relative_to(site)},,\n" for path in site.rglob("*.py"))
    about = site / "own-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
    (about / "RECORD").write_text(f"{record}own-1.0.dist-info/RECORD,,\n")
    (about / "direct_url.json").write_text(json.dumps({"url": repo.root.as_uri(), "dir_info": {}}))
    return site
