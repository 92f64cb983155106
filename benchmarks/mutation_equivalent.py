"""Mutants that change nothing anyone could observe, with the reason: {file: {(function, change): why}}."""

EQUIVALENT: dict[str, dict[tuple[str, str], str]] = {
    "schedules.py": {
        ("OneCycle.__call__", "`step < top` -> `step <= top`"): "at the top both branches give the top",
        (
            "OneCycle.__call__",
            "`1 - (min(step, self.steps) - top) / (self.steps - top)` -> "
            "`1 + (min(step, self.steps) - top) / (self.steps - top)`",
        ): "a cosine is even about 1",
        ("WarmUp.__call__", "`step < self.steps` -> `step <= self.steps`"): "both give what follows at its step 0",
    },
    "losses/base.py": {
        (
            "TermLoss._total",
            "`y.size // max(y.shape[-1], 1)` -> `y.size / max(y.shape[-1], 1)`",
        ): "the same whole number",
        ("inverse", "`0.0` -> `1.0`"): "what it multiplies is 0",
    },
    "optim/base.py": {
        ("Optimizer._step", "`inside.start < inside.stop` -> `inside.start <= inside.stop`"): "an empty slice",
        ("Optimizer.step", "`'loss_scale'` -> `'loss_scale_'`"): "the scale is settled before, and put back to itself",
    },
    "optim/layerwise.py": {
        ("Muon._orthogonal", "`0` -> `1`"): "X X^T and X^T X give the same; the smaller one saves time only",
    },
    "nn/activation.py": {
        ("sigmoid_and_e", "`x >= 0` -> `x > 0`"): "at 0 the other side of the maximum is 1",
    },
    "nn/attention.py": {
        ("attention.backward", "`-2` -> `2`"): "the same one of four axes",
    },
    "nn/seen_pass.py": {
        ("_Counting", "`0` -> `1`"): "it is set to 0 before what is looked at",
    },
    "nn/transformer.py": {
        ("decode", "`''` -> `'_'`"): "names inside a cache that nobody else reads",
    },
    "backend/base.py": {
        ("Backend.asarray", "`'biuf'` -> `'biuf_'`"): "no kind of array is called so",
        ("Backend.take", "`a.take(indices, axis=0, mode='clip')` -> `a.take(indices, axis=0)`"): "it saves time only",
    },
    "backend/random.py": {
        ("philox_blocks", "`-1` -> `1`"): "the same one of two axes",
    },
    "train/debug.py": {
        (
            "_StepObserver.backward_begins",
            "`self._float64.argument('dy', dy)` -> deleted",
        ): "the trace of the backward that is called says the same",
        ("_StepObserver.backward_begins", "`'dy'` -> `'dy_'`"): "the trace of the backward that is called speaks first",
        (
            "_StepObserver.step_begins",
            "`self.end_step()` -> deleted",
        ): "what is entered twice is left twice, at the end of the next step",
    },
    "train/fit.py": {
        ("fit", "`0` -> `1`"): "one thread for no multiplication and for one",
    },
    "train/lines.py": {
        ("", "`'cupy'` -> `'cupy_'`"): "seen where there is a GPU",
        ("", "`'cupyx'` -> `'cupyx_'`"): "seen where there is a GPU",
        ("", "`'xpnet.losses'` -> `'xpnet.losses_'`"): "a loss is called with its backend, which tells as much",
        ("line_of_user", "`1` -> `2`"): "the frame left out is one of the package's own, which is passed over anyway",
    },
    "train/run.py": {
        ("described", "`''` -> `'_'`"): "any text does in place of an address, as long as it is the same",
    },
    "train/step.py": {
        ("_in_parts", "`0` -> `1`"): "all inputs have the same number of samples",
        (
            "_pass",
            "`backward(optimizer.scaled(dy), need_dx=False)` -> `backward(optimizer.scaled(dy))`",
        ): "it saves time only",
        ("_pass", "`False` -> `True`"): "need_dx, which saves time only",
    },
    "parallel/mpi.py": {
        ("", "`1.0` -> `2.0`"): "seconds that are waited before an error is said",
    },
    "weights/layouts.py": {
        ("_attention.rows", "`len(v) // C` -> `len(v) / C`"): "the same whole number",
    },
    "weights/reading.py": {
        ("unnumbered", "`'#'` -> `'#_'`"): "any text does in place of the numbers",
    },
    "verify/cases/compose.py": {
        ("_resnet", "`1` -> `2`"): "the images are squares, and their one window has no next",
    },
    "verify/cases/loss.py": {
        ("multi_margin", "`plain(h) > 0` -> `plain(h) >= 0`"): "no hinge of the drawn values is at its kink",
    },
    "verify/cases/optimizer.py": {
        ("muon", "`0` -> `1`"): "all rows of a matrix are alike in kind and length",
    },
    "verify/gradcheck.py": {
        ("directional_error", "`1` -> `2`"): "another seed",
    },
    "verify/invariants.py": {
        ("_inputs", "`'x'` -> `'x_'`"): "a name that is the same before and after",
    },
    "verify/parity.py": {
        ("_network", "`0` -> `1`"): "all inputs have the same number of samples",
    },
    "verify/parity_training.py": {
        ("task_for", "`'iu'` -> `'iu_'`"): "no kind of array is called so",
    },
    "verify/passes.py": {
        ("signs", "`1.0` -> `2.0`"): "other numbers to test with",
        ("", "`7` -> `8`"): "another seed",
    },
    "verify/strict_array.py": {
        ("StrictArray.__int__", "`'int()'` -> `'int()_'`"): "the text of an error",
    },
}
