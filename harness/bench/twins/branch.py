"""A branch as its own process sees it: it becomes one side, and forks a process for every case."""

from __future__ import annotations

import os

from harness.bench.catalog import load_catalogue
from harness.bench.measure.channel import Channel
from harness.bench.measure.worker import serve
from harness.bench.measure.zygote import become_worker, serve_forks, thread_count
from harness.bench.twins.desk import TwinDesk
from harness.bench.twins.side import Side
from harness.paper.errors import SameopError


def grow(channel: Channel) -> None:
    """Become the side that the first line names, read its pages, and fork for whoever asks."""
    request = channel.receive()
    if request is None:
        return
    side = Side.from_json(request["side"])
    shadowed = [] if request["started"] else side.shadowed()
    if shadowed:
        channel.send({"shadowed": shadowed})
        return
    side.enter()
    try:
        catalogue = load_catalogue(side.folders)
    except SameopError as error:
        channel.send({"failed": str(error)})
        return
    if strays := side.strays():
        channel.send({"strays": strays})
        return
    channel.send({"ready": os.getpid(), "threads": thread_count()})

    def work(channel: Channel) -> None:
        become_worker(channel)
        serve(channel, TwinDesk(catalogue, side))

    serve_forks(channel, work)
