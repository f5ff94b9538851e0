"""The planted slowdown: where it is put, that it is loaded, and that it takes what it should."""

from __future__ import annotations

import asyncio
import importlib
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from harness.bench.twins.burden import spend
from harness.bench.twins.called import Called, functions_called
from harness.doors.gate.planting import NotPlantedError, plant

Load = Callable[..., ModuleType]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Return a function that writes modules below a folder and imports one, afresh each time."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def forget() -> None:
        # Only what lies here: torch registers what it imports on the way, and would not do so twice.
        for module, loaded in list(sys.modules.items()):
            if str(getattr(loaded, "__file__", "")).startswith(str(tmp_path)):
                del sys.modules[module]

    def fresh(name: str, /, **files: str) -> ModuleType:
        for module, text in files.items():
            path = tmp_path / f"{module.replace('__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        forget()
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield fresh
    forget()


def seconds(call: Callable[[], object], times: int = 9) -> float:
    """Return the CPU time of a call, the shortest of several."""
    found = []
    for _ in range(times):
        start = time.thread_time()
        call()
        found.append(time.thread_time() - start)
    return min(found)


class TestBurden:
    """Time that is burnt on purpose."""

    @pytest.mark.parametrize("nanoseconds", [20_000, 200_000, 5_000_000])
    def test_takes_what_was_asked(self, nanoseconds: int) -> None:
        """A burden takes its time on the clock that stands still while others run."""

        def spend_often() -> None:
            for _ in range(10):
                spend(nanoseconds)

        taken = seconds(spend_often) / 10
        assert taken == pytest.approx(nanoseconds * 1e-9, rel=0.1)


class TestCalled:
    """Which functions a call runs."""

    def test_files_names_lines_and_times(self, load: Load, tmp_path: Path) -> None:
        """Functions of modules, methods and functions in functions are told, those of others are not."""
        module = load(
            "page",
            page="""
            from inner.deep import Scale

            def call(x=2):
                return sorted([Scale(3)(x), Scale(4)(x)], key=lambda y: -y)
            """,
            inner__deep="""
            import functools

            class Scale:
                def __init__(self, factor):
                    self.factor = factor

                @functools.wraps(print)
                def __call__(self, x):
                    def times(y):
                        return y * self.factor
                    return times(x)
            """,
        )
        assert functions_called(module.call, tmp_path) == [
            Called("page.py", "call", 4, 1),
            Called("inner/deep.py", "Scale.__init__", 5, 2),
            Called("inner/deep.py", "Scale.__call__", 8, 2),
            Called("inner/deep.py", "Scale.__call__.<locals>.times", 10, 2),
            Called("page.py", "call.<locals>.<lambda>", 5, 2),
        ]
        assert functions_called(module.call, tmp_path / "inner")[0].file == "deep.py"
        assert functions_called(module.call, tmp_path / "inn") == []

    def test_first_call_is_not_observed(self, load: Load, tmp_path: Path) -> None:
        """What only the first call runs, such as an import, is not part of a call."""
        module = load(
            "page",
            page="def call():\n    import late\n    return late.work()\n",
            late="def work():\n    return 1\n",
        )
        assert [found.name for found in functions_called(module.call, tmp_path)] == ["call", "work"]

    def test_suspended_functions_are_counted_once(self, load: Load, tmp_path: Path) -> None:
        """A generator that yields three times was called once."""
        module = load(
            "page",
            page="""
            import asyncio

            def numbers():
                yield from (1, 2, 3)

            async def pause():
                await asyncio.sleep(0)
                await asyncio.sleep(0)

            def call():
                asyncio.run(pause())
                return sum(numbers())
            """,
        )
        found = {called.name: called.times for called in functions_called(module.call, tmp_path)}
        assert found == {"call": 1, "pause": 1, "numbers": 1}

    def test_through_a_link(self, load: Load, tmp_path: Path) -> None:
        """A folder may be named by another way than the one its modules were found by."""
        module = load("page", page="def call():\n    return 1\n")
        (tmp_path / "way").symlink_to(tmp_path)
        assert [found.file for found in functions_called(module.call, tmp_path / "way")] == ["page.py"]

    def test_custom_operators_and_gradients_are_seen_and_compiled_functions_are_not(
        self, load: Load, tmp_path: Path
    ) -> None:
        """A change within what was compiled would change the program, so nothing is planted there."""
        module = load(
            "page",
            page="""
            import torch

            def double(x):
                return x * 2

            @torch.library.custom_op("planting::double", mutates_args=())
            def custom(x: torch.Tensor) -> torch.Tensor:
                return double(x)

            class Own(torch.autograd.Function):
                @staticmethod
                def forward(ctx, x):
                    return x * 1

                @staticmethod
                def backward(ctx, g):
                    return slope(g)

            def slope(g):
                return g * 1

            def traced(x):
                return inlined(x) + 1

            def inlined(x):
                return x * 3

            translated = torch.compile(traced, backend="eager")

            def call():
                x = torch.ones(3, requires_grad=True)
                Own.apply(x).sum().backward()
                return translated(custom(x.detach()))
            """,
        )
        names = [found.name for found in functions_called(module.call, tmp_path)]
        assert names == ["call", "Own.forward", "Own.backward", "slope", "custom", "double"]

    def test_profiler_of_before_is_back(self, tmp_path: Path) -> None:
        """Whoever profiles goes on profiling, also after an error."""

        def profiler(*_: object) -> None:
            return None

        def fail() -> None:
            raise ValueError("no")

        sys.setprofile(profiler)
        try:
            functions_called(int, tmp_path)
            assert sys.getprofile() is profiler
            with pytest.raises(ValueError, match="no"):
                functions_called(fail, tmp_path)
            assert sys.getprofile() is profiler
        finally:
            sys.setprofile(None)


CALLED = "SPEND(700)"
# What a function looks like, and what it looks like with the slowdown.
SHAPES = {
    "plain": ("def f(x):\n    return x\n", "def f(x):\n    SPEND(700)\n    return x\n"),
    "docstring": (
        'def f(x):\n    """Do."""\n    return x\n',
        'def f(x):\n    """Do."""\n    SPEND(700)\n    return x\n',
    ),
    "one line": ("def f(x): return x\n", "def f(x): SPEND(700); return x\n"),
    "one line and a docstring": ('def f(x): "ä"; return x\n', 'def f(x): "ä"; SPEND(700); return x\n'),
    "continued": ("def f(x): \\\n    return x\n", "def f(x): \\\n    SPEND(700); return x\n"),
    "long head": (
        "def f(\n    x,\n): return x\n",
        "def f(\n    x,\n): SPEND(700); return x\n",
    ),
    "tabs": ("def f(x):\n\tif x:\n\t\treturn x\n", "def f(x):\n\tSPEND(700)\n\tif x:\n\t\treturn x\n"),
    "comment first": (
        "def f(x):\n    # ü\n    return x\n",
        "def f(x):\n    # ü\n    SPEND(700)\n    return x\n",
    ),
    "no end of line": ("def f(x):\n    return x", "def f(x):\n    SPEND(700)\n    return x"),
    "ends of Windows": ("def f(x):\r\n    return x\r\n", "def f(x):\r\n    SPEND(700)\r\n    return x\r\n"),
    "form feed": (
        "def f(x):\n    y = '\f'\n    return x\n",
        "def f(x):\n    SPEND(700)\n    y = '\f'\n    return x\n",
    ),
    "decorated": (
        "@abs\n@(\n    abs\n)\ndef f(x):\n    return x\n",
        "@abs\n@(\n    abs\n)\ndef f(x):\n    SPEND(700)\n    return x\n",
    ),
    "decorated function within": (
        "def f(x):\n    @abs\n    def g(): pass\n    return g\n",
        "def f(x):\n    SPEND(700)\n    @abs\n    def g(): pass\n    return g\n",
    ),
    "asynchronous": ("async def f(x):\n    return x\n", "async def f(x):\n    SPEND(700)\n    return x\n"),
    "method": (
        "class A:\n    def f(self):\n        return self\n",
        "class A:\n    def f(self):\n        SPEND(700)\n        return self\n",
    ),
    "nested": (
        "def g(x):\n    def f(y): return y\n    return f(x)\n",
        "def g(x):\n    def f(y): SPEND(700); return y\n    return f(x)\n",
    ),
    "parentheses": ("def f(x):\n    (\n        x)\n", "def f(x):\n    SPEND(700)\n    (\n        x)\n"),
}
# What may stand above it, and what then stands there.
HEADS = {
    "nothing": ("", "IMPORT\n"),
    "docstring": ('"""Page."""\n', '"""Page."""\nIMPORT\n'),
    "future": (
        '"""Page."""\n\nfrom __future__ import annotations\n\n',
        '"""Page."""\n\nfrom __future__ import annotations\n\nIMPORT\n',
    ),
    "import on the line of the docstring": ('"""P."""; import os\n', '"""P."""; IMPORT; import os\n'),
}


class TestPlant:
    """Where the slowdown is put."""

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("head", HEADS)
    def test_text(self, tmp_path: Path, head: str, shape: str) -> None:
        """Every other byte of the file stays as it was."""
        before, after = (top + body for top, body in zip(HEADS[head], SHAPES[shape], strict=True))
        if "\r\n" in before:
            before, after = (text.replace("\r\n", "\n").replace("\n", "\r\n") for text in (before, after))
        path = tmp_path / "a.py"
        path.write_bytes(before.encode())
        line = next(row for row, text in enumerate(before.split("\n"), 1) if "@(" in text or "f(" in text)
        line -= shape == "decorated"
        called = Called("a.py", "f", line, 1)
        assert plant(tmp_path, [called], 700) == called
        expected = after.replace("SPEND", "_sameop_spend").replace(
            "IMPORT", "from harness.bench.twins.burden import spend as _sameop_spend"
        )
        assert path.read_bytes().decode() == expected

    def test_encoding_is_kept(self, tmp_path: Path) -> None:
        """A file in another encoding stays in it."""
        text = "# coding: latin-1\ndef f(x): 'ä'; return x\n"
        (tmp_path / "a.py").write_bytes(text.encode("latin-1"))
        plant(tmp_path, [Called("a.py", "f", 2, 1)], 700)
        planted = (tmp_path / "a.py").read_bytes().decode("latin-1")
        assert planted.endswith("def f(x): 'ä'; _sameop_spend(700); return x\n")

    def test_first_choice(self, tmp_path: Path) -> None:
        """Once per call goes before deep, and deep before the page; what cannot be planted is passed over."""
        (tmp_path / "cases" / "sub").mkdir(parents=True)
        (tmp_path / "own" / "deep").mkdir(parents=True)
        text = "f = lambda x: x\ndef g(x):\n    return x\n"
        files = ["cases/page.py", "cases/sub/page.py", "own/a.py", "own/deep/b.py", "own/deep/twice.py"]
        for name in files:
            (tmp_path / name).write_text(text)
        pages = [tmp_path / "cases"]
        functions = [Called(name, "g", 2, 2 if "twice" in name else 1) for name in files]
        lambdas = [Called("own/deep/b.py", "<lambda>", 1, 1), Called("own/none.py", "g", 1, 1)]
        chosen = []
        while functions:
            chosen.append(plant(tmp_path, [*lambdas, *functions], 900, pages).file)
            functions = [function for function in functions if function.file != chosen[-1]]
        assert chosen == [
            "own/deep/b.py",
            "own/a.py",
            "cases/sub/page.py",
            "cases/page.py",
            "own/deep/twice.py",
        ]
        assert "_sameop_spend(450)" in (tmp_path / "own/deep/twice.py").read_text()

    @pytest.mark.parametrize(
        "text", ["def f(x:\n", "f = lambda x: x\n", "", "def f(x):\n    'only this'\n", "\0"]
    )
    def test_nothing_to_plant_into(self, tmp_path: Path, text: str) -> None:
        """A call without a function of the project's own is told, and no file is changed."""
        (tmp_path / "a.py").write_text(text)
        with pytest.raises(NotPlantedError) as caught:
            plant(tmp_path, [Called("a.py", "f", 1, 1), Called("a.py", "<lambda>", 1, 1)], 700)
        assert str(caught.value) == (
            "No slowdown can be planted: the call runs no function written in Python in the project's own "
            "files; choose another case for the plant."
        )
        assert (tmp_path / "a.py").read_text() == text


class TestLoaded:
    """The slowdown as the interpreter's own loader finds it."""

    def test_every_kind_of_function_is_slower_by_what_was_planted(self, load: Load, tmp_path: Path) -> None:
        """A call takes what was planted more, whatever kind of function it is in."""
        text = """
        import asyncio
        import functools

        def plain():
            return 1

        def one_line(): return 1

        @functools.cache
        def nothing():
            return 1

        def wrapped(function):
            @functools.wraps(function)
            def inner():
                return function()
            return inner

        @wrapped
        def decorated():
            return 1

        class Scale:
            def __call__(self):
                return 1

        scale = Scale()

        async def later():
            return 1

        def asynchronous():
            return asyncio.run(later())

        def twice():
            return plain() + plain()
        """
        calls = ["plain", "one_line", "decorated", "scale", "asynchronous", "twice"]
        for name in calls:
            before = load("page", page=text)
            time_before = seconds(getattr(before, name))
            functions = functions_called(getattr(before, name), tmp_path)
            planted = plant(tmp_path, functions[-1:], 3_000_000)
            after = load("page")
            assert seconds(getattr(after, name)) - time_before == pytest.approx(3e-3, rel=0.1), planted

    def test_what_was_compiled_before_is_not_taken(self, load: Load, tmp_path: Path) -> None:
        """A file that was imported is compiled again, although its length and second are the same."""
        text = "def f(x):\n    return _sameop_spend\n"
        (tmp_path / "page.py").write_text(text)
        plant(tmp_path, [Called("page.py", "f", 1, 1)], 100)
        first = load("page").f
        (tmp_path / "page.py").write_text(text)
        plant(tmp_path, [Called("page.py", "f", 1, 1)], 999)
        assert first.__code__.co_consts != load("page").f.__code__.co_consts

    def test_result_is_unchanged(self, load: Load, tmp_path: Path) -> None:
        """A slowdown changes no number, in gradients neither."""
        module = load("page", page="def f(x):\n    return (x * x).sum()\n")
        x = torch.arange(5.0, requires_grad=True)
        before = torch.autograd.grad(module.f(x), x)
        plant(tmp_path, functions_called(lambda: module.f(x), tmp_path), 1000)
        assert torch.equal(torch.autograd.grad(load("page").f(x), x)[0], before[0])


def test_an_asynchronous_function_may_be_planted_into(load: Load, tmp_path: Path) -> None:
    """The slowdown is spent when the coroutine runs, and not where it is made."""
    load("page", page="async def f():\n    return 1\n")
    plant(tmp_path, [Called("page.py", "f", 1, 1)], 2_000_000)
    module = load("page")
    coroutine = module.f()
    assert asyncio.run(coroutine) == 1
    assert seconds(lambda: asyncio.run(module.f())) > 2e-3
