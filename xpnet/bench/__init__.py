"""How fast a model's training step is on a device, where its time goes, and which device is the fastest."""

from xpnet.bench.measure import Bench, LayerTime, bench, fastest

__all__ = ["Bench", "LayerTime", "bench", "fastest"]
