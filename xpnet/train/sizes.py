"""How large the activations and gradients of each layer are while a network trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xpnet.arguments import whole
from xpnet.backend import Observer
from xpnet.nn import Layer, Model
from xpnet.nn.layer import Parameter
from xpnet.nn.shapes import in_tuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUANTITIES = {
    "activation": "output",
    "gradient": "gradient with respect to the output",
    "weight_gradient": "gradient with respect to the weights",
}


class LayerSizes(Observer):
    """Sizes by layer, every so many steps: `sizes = train.LayerSizes(model); fit(..., watch=sizes); sizes.plot()`.

    A size is the root of the mean square. `rows` has a dict for each watched step and layer: "step" (from 1), "layer"
    (its path), "kind", "activation" (of its output), "gradient" (of the loss with respect to that output) and
    "weight_gradient" (of the loss with respect to its own parameters, if it has any). Gradients that shrink from layer
    to layer on the way back to the first layer vanish; gradients that grow explode. Layers that contain others are left
    out; a layer that is used twice has one row for both uses.

    A watched step is never a captured one, and the host waits for it: watch few steps. If the loss is scaled (see
    `optim.loss_scale`), so are the gradients.
    """

    def __init__(self, model: Model, every: int = 50):
        self.every = whole("every", every, least=1)
        self.rows: list[dict[str, Any]] = []
        self.model, self._to_host = model, model.backend.to_host
        self._paths: dict[Layer, str] = {}
        for path, layer in model.network.walk():
            if not any(True for _ in layer.children()):
                self._paths.setdefault(layer, path)
        self._sums: dict[Layer, dict[str, tuple[Any, int]]] = {}  # of this step: (sum of squares, number of values)
        self._weight: Any = 1.0  # of this step: the gradients are still to be divided by it

    def wants(self, step: int) -> bool:
        """Whether to watch step number `step`, from 0: the first step, and the last of every `every` steps."""
        return step == 0 or (step + 1) % self.every == 0

    def step_begins(self, model: Model) -> None:
        if model is not self.model:
            raise ValueError("these LayerSizes were made for another model")
        self._sums, self._weight = {layer: {} for layer in self._paths}, 1.0

    def forward(self, layer: Layer, x: Any, y: Any) -> None:
        self._add(layer, "activation", y)

    def backward_begins(self, layer: Layer, dy: Any) -> None:
        self._add(layer, "gradient", dy)

    def backward(self, layer: Layer, dy: Any, dx: Any) -> None:
        if layer in self._sums:
            own = tuple(p.grad for p in vars(layer).values() if isinstance(p, Parameter) and p.trained)
            self._sums[layer].pop("weight_gradient", None)  # for a layer used twice, the second has the sum
            self._add(layer, "weight_gradient", own)

    def weighed(self, weight: Any) -> None:
        self._weight = weight

    def _add(self, layer: Layer, quantity: str, arrays: Any) -> None:
        for array in in_tuple(arrays):
            if layer in self._sums and array is not None and array.dtype.kind == "f":
                total, count = self._sums[layer].get(quantity, (0.0, 0))
                self._sums[layer][quantity] = total + (array * array).sum(), count + array.size

    def step_done(self, step: int) -> None:
        """Read the numbers of step number `step`, from 0, and keep them as rows."""
        weight = self._weight if isinstance(self._weight, (int, float)) else self._to_host(self._weight).item()
        for layer, path in self._paths.items():
            sizes = {name: float(self._to_host(total) / n) ** 0.5 for name, (total, n) in self._sums[layer].items()}
            for name in sizes.keys() - {"activation"}:
                sizes[name] /= weight or 1.0
            if sizes:
                self.rows.append({"step": step + 1, "layer": path, "kind": type(layer).__name__, **sizes})

    def plot(self) -> Figure:
        """One panel per quantity, by step, on a logarithmic axis; one line per layer, the first layers dark, the last
        light."""
        from matplotlib import colormaps
        from matplotlib.figure import Figure

        if not self.rows:
            raise ValueError("nothing was watched yet: give it to fit, as in train.fit(..., watch=sizes)")
        names = {row["layer"]: f"{row['layer']} {row['kind']}".strip() for row in self.rows}
        figure = Figure(figsize=(15, 4.6), layout="constrained")
        for axes, (quantity, title) in zip(figure.subplots(1, len(QUANTITIES)), QUANTITIES.items(), strict=True):
            for i, (path, name) in enumerate(names.items()):
                points = [(r["step"], r[quantity]) for r in self.rows if r["layer"] == path and quantity in r]
                colour = colormaps["viridis"](0.9 * i / max(len(names) - 1, 1))
                axes.plot([x for x, _ in points], [y for _, y in points], color=colour, label=name, marker=".")
            axes.set_yscale("log")
            axes.set_title(title)
            axes.set_xlabel("step")
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
        figure.axes[0].set_ylabel("root mean square")
        figure.legend(
            *figure.axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8, frameon=False
        )
        return figure
