"""Mutants that change nothing that can be observed, with the reason: {file: {(function, change): why}}."""

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
    "losses/cross_entropy.py": {
        ("BinaryCrossEntropy.terms", "`y > 0` -> `y >= 0`"): "at 0 it is multiplied by y",
    },
    "nn/activation.py": {
        ("HardSwish.forward.backward", "`3` -> `4`"): "from 3 on it is multiplied by 0, and need only be finite",
        ("sigmoid_and_e", "`x >= 0` -> `x > 0`"): "at 0 the other side of the maximum is 1",
    },
    "nn/attention.py": {
        ("attention.backward", "`-2` -> `2`"): "the same one of four axes",
    },
    "nn/softmax.py": {
        ("Softmax.forward.backward", "`True` -> `False`"): "need_dx, at which it does not look",
        ("LogSoftmax.forward.backward", "`True` -> `False`"): "need_dx, at which it does not look",
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
    "data/stored.py": {
        (
            "_npy",
            "`np.load(path, mmap_mode=mode, allow_pickle=False)` -> `np.load(path, mmap_mode=mode)`",
        ): "NumPy's own default",
    },
    "frames.py": {
        ("whole_of", "`'biu'` -> `'biu_'`"): "no kind of array is called so",
    },
    "files.py": {
        ("locked", "`0.1` -> `1.1`"): "seconds that are waited between two looks",
        ("_try_lock", "`0` -> `1`"): "seen where there is Windows",
        ("_try_lock", "`file.seek(0)` -> deleted"): "seen where there is Windows",
    },
    "doctor/machine.py": {
        ("_windows_memory", "`'kernel32'` -> `'kernel32_'`"): "seen where there is Windows",
    },
    "doctor/report.py": {
        ("_timed_product", "`5` -> `6`"): "how often something is timed",
    },
    "probe/installed.py": {
        ("cupy_distributions", "`''` -> `'_'`"): "any text does that is not the name of such a package",
    },
    "bench/measure.py": {
        ("bench", "`min` -> `max`"): "how often something is timed",
    },
    "photo/shapes.py": {
        (
            "hull_area.chain",
            "`(x1 - x0) * (y - y0) > (y1 - y0) * (x - x0)` -> `(x1 - x0) * (y - y0) >= (y1 - y0) * (x - x0)`",
        ): "a corner on a straight side adds no area",
    },
    "train/callbacks.py": {
        ("ask_callbacks.ask", "`run.group.size > 1` -> `run.group.size >= 1`"): "it saves time only",
        (
            "ask_callbacks.ask",
            "`callbacks and run.group.size > 1` -> `callbacks or run.group.size > 1`",
        ): "it saves time only",
        ("ask_callbacks", "`run.group.rank > 0` -> `run.group.rank >= 0`"): "process 0 has all of it",
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
        ("fit", "`group.size > 1` -> `group.size >= 1`"): "it saves time only",
    },
    "train/lines.py": {
        ("", "`'cupy'` -> `'cupy_'`"): "seen where there is a GPU",
        ("", "`'cupyx'` -> `'cupyx_'`"): "seen where there is a GPU",
        ("", "`'xpnet.losses'` -> `'xpnet.losses_'`"): "a loss is called with its backend, which tells as much",
        ("line_of_user", "`1` -> `2`"): "the frame left out is one of the package's own, which is passed over anyway",
    },
    "train/metrics.py": {
        ("_sums", "`0` -> `1`"): "what stands in place of a value of weight 0 is multiplied by it",
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
        ("arrays_of", "`value.element_size() < 4` -> `value.element_size() <= 4`"): "float32 as float32 is itself",
        ("arrays_of", "`4` -> `5`"): "float32 as float32 is itself",
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
        (
            "directional_error",
            "`found[0] <= allowed` -> `found[0] < allowed`",
        ): "where both are 0, the next step says so",
        (
            "directional_error",
            "`abs(quotient - before) > allowed` -> `abs(quotient - before) >= allowed`",
        ): "two sums of rounded numbers, which are not equal",
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
