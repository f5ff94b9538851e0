"""The meters that read one call after its samples were taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from harness.bench.measure.clocks import Call
from harness.bench.measure.energy import read_energy
from harness.bench.measure.memory import read_memory
from harness.bench.measure.subject import Subject
from harness.paper.record import Reading
from harness.paper.units import Unit

# The unit of a meter, and what reads it. A new meter is one file and one line here.
METERS: Mapping[str, tuple[Unit, Callable[[Subject, Call], Reading]]] = {
    "memory": (Unit.BYTES, read_memory),
    "energy": (Unit.JOULES_PER_CALL, read_energy),
}
