"""Detectors and segmenters on a backbone: only the backbone is assembled here.

The rest of a detector is what Swin's README prints for the same detector less Swin's backbone, so a row
checks the difference that the backbone makes. Its maps grow with the image, and with them its
multiply-accumulates: 1280×800 for Cascade Mask R-CNN, 512×2048 for UPerNet, as these are counted.
"""

from dataclasses import dataclass
from functools import partial

from harness import Books, Figure, Term

HAN = "Atten4Vis/DemystifyLocalViT, README.md"


@dataclass(frozen=True)
class Detector:
    """A detector: its name, the pixels of an image, and what Swin's README prints with a backbone."""

    name: str
    pixels: int
    swin: dict[str, tuple[float, float]]


CASCADE = Detector("Cascade Mask R-CNN", 1280 * 800, {"t": (86e6, 745e9), "b": (145e6, 982e9)})
UPERNET = Detector("UPerNet", 512 * 2048, {"t": (60e6, 945e9), "b": (121e6, 1188e9)})


def backbone(books: Books, network: str, detector: Detector, quantity: str) -> float:
    """Count a network without its classifier, its map enlarged to the detector's image."""
    layers = [layer for layer in books.network(network).layers if "/head" not in layer.workload]
    if quantity == "params":
        return sum(layer.count * layer.params for layer in layers)
    return sum(layer.count * layer.macs for layer in layers) * detector.pixels / 224**2


def rest(books: Books, size: str, detector: Detector, quantity: str) -> float:
    """Count the rest of a detector from Swin's figures."""
    printed = detector.swin[size][quantity == "macs"]
    return printed - backbone(books, f"swin_{size}", detector, quantity)


def figure(network: str, detector: Detector, quantity: str, printed: str) -> Figure:
    """Return the row of one printed figure."""
    reason = "the rest of the detector, which is Swin's printed figure less Swin's backbone"
    return Figure(
        f"{detector.name} with {network}",
        quantity,
        printed,
        HAN,
        partial(backbone, network=network, detector=detector, quantity=quantity),
        (Term(reason, partial(rest, size=network[-1], detector=detector, quantity=quantity)),),
        remark="Swin's own figure is rounded too",
    )


PRINTED = (
    ("dwnet_t", CASCADE, "82 M", "730 G"),
    ("ddwnet_t", CASCADE, "108 M", "730 G"),
    ("dwnet_b", CASCADE, "132 M", "924 G"),
    ("ddwnet_b", CASCADE, "219 M", "924 G"),
    ("dwnet_t", UPERNET, "56 M", "928 G"),
    ("ddwnet_t", UPERNET, "83 M", "928 G"),
    ("dwnet_b", UPERNET, "108 M", "1129 G"),
    ("ddwnet_b", UPERNET, "195 M", "1129 G"),
)
FIGURES = [
    figure(network, detector, quantity, printed)
    for network, detector, *numbers in PRINTED
    for quantity, printed in zip(("params", "macs"), numbers, strict=True)
]
