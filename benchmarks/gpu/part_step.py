"""A training step on features in device memory: within 2.5 times the loss's products, and no wait for the card."""

from __future__ import annotations

import statistics

from benchmarks.gpu.measurement import Measurement
from benchmarks.gpu.training import Pooled, StepClock, cache, sampler, train, waits

_FIRST = 10
"""Steps that compile, allocate and choose algorithms."""
_PROFILED = 10


def measure(m: Measurement) -> None:
    """Timed steps, then some under the profiler, then some in which a wait would be an error."""
    sizes = m.sizes
    per_epoch = max(2, sizes.steps // 2)  # one epoch's end lies among the steps, as in a training
    features = sampler(m, Pooled(sizes.image_px // sizes.side, sizes.channels), per_epoch * sizes.images)
    cache(features)
    m.report("features kept in", str(features.place))
    first = min(_FIRST, sizes.steps // 3)
    clock = StepClock(m.device)
    train(m, features, 2, [clock])
    seconds = statistics.median(clock.seconds(first))
    m.report("floor of the loss's products", 1e3 * m.loss_floor, "ms")
    m.report("step, median", 1e3 * seconds, "ms")
    m.report("step over the floor", seconds / m.loss_floor, "x", most=2.5)
    last = min(first + _PROFILED, per_epoch - 1)
    watched = StepClock(m.device, profiled=(min(first, last), last))
    train(m, features, 1, [watched])
    m.report("card busy", 100 * m.keep_profile("step", watched.profiler, watched.wall), "%", least=85)
    places = waits(m, features, 2, (first, first + per_epoch // 2))
    if m.on_card:
        m.report("places in the loop that wait for the card", len(places), most=0)
        for place in places:
            m.note(f"waits for the card: {place}")
