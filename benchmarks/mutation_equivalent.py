"""Mutants that change nothing that can be observed, with the reason: {file: {(function, change): why}}."""

EQUIVALENT: dict[str, dict[tuple[str, str], str]] = {
    "schedules.py": {
        ("OneCycle.__call__", "`step < top` -> `step <= top`"): "at the top both branches return the top rate",
        (
            "OneCycle.__call__",
            "`1 - (min(step, self.steps) - top) / (self.steps - top)` -> "
            "`1 + (min(step, self.steps) - top) / (self.steps - top)`",
        ): "the cosine has the same values on both sides of 1",
        (
            "WarmUp.__call__",
            "`step < self.steps` -> `step <= self.steps`",
        ): "both return the following schedule at its step 0",
    },
    "losses/base.py": {
        (
            "TermLoss._total",
            "`y.size // max(y.shape[-1], 1)` -> `y.size / max(y.shape[-1], 1)`",
        ): "the division leaves no remainder: the same number",
        ("inverse", "`0.0` -> `1.0`"): "it is multiplied by 0",
    },
    "optim/base.py": {
        (
            "Optimizer._step",
            "`inside.start < inside.stop` -> `inside.start <= inside.stop`",
        ): "the slice is then empty, and nothing is updated",
        (
            "Optimizer.step",
            "`'loss_scale'` -> `'loss_scale_'`",
        ): "the scale is set before, and is restored to the same value",
    },
    "optim/layerwise.py": {
        ("Muon._orthogonal", "`0` -> `1`"): "X X^T and X^T X lead to the same result; the smaller one only saves time",
    },
    "losses/cross_entropy.py": {
        ("BinaryCrossEntropy.terms", "`y > 0` -> `y >= 0`"): "at y = 0 it is multiplied by y",
    },
    "nn/activation.py": {
        (
            "HardSwish.forward.backward",
            "`3` -> `4`",
        ): "where |x| >= 3 it is multiplied by 0, so it only has to be finite",
        ("sigmoid_and_e", "`x >= 0` -> `x > 0`"): "at 0, e = 1 is the maximum in either case",
    },
    "nn/attention.py": {
        ("attention.backward", "`-2` -> `2`"): "of four axes, -2 and 2 are the same one",
    },
    "nn/softmax.py": {
        ("Softmax.forward.backward", "`True` -> `False`"): "need_dx, which this backward does not read",
        ("LogSoftmax.forward.backward", "`True` -> `False`"): "need_dx, which this backward does not read",
    },
    "nn/seen_pass.py": {
        ("_Counting", "`0` -> `1`"): "it is set to 0 before the first value that is read",
    },
    "nn/transformer.py": {
        ("decode", "`''` -> `'_'`"): "prefixes of names in a cache that nothing else reads",
    },
    "backend/base.py": {
        ("Backend.asarray", "`'biuf'` -> `'biuf_'`"): "no dtype has the kind _",
        ("Backend.take", "`a.take(indices, axis=0, mode='clip')` -> `a.take(indices, axis=0)`"): "it only saves time",
    },
    "backend/random.py": {
        ("philox_blocks", "`-1` -> `1`"): "of two axes, -1 and 1 are the same one",
    },
    "data/stored.py": {
        (
            "_npy",
            "`np.load(path, mmap_mode=mode, allow_pickle=False)` -> `np.load(path, mmap_mode=mode)`",
        ): "allow_pickle=False is NumPy's default",
    },
    "frames.py": {
        ("whole_of", "`'biu'` -> `'biu_'`"): "no dtype has the kind _",
    },
    "files.py": {
        ("locked", "`0.1` -> `1.1`"): "the seconds between two attempts",
        ("_try_lock", "`0` -> `1`"): "only observable on Windows",
        ("_try_lock", "`file.seek(0)` -> deleted"): "only observable on Windows",
    },
    "doctor/machine.py": {
        ("_windows_memory", "`'kernel32'` -> `'kernel32_'`"): "only observable on Windows",
    },
    "doctor/report.py": {
        ("_timed_product", "`5` -> `6`"): "how often something is timed: the result does not depend on it",
    },
    "probe/installed.py": {
        ("cupy_distributions", "`''` -> `'_'`"): "any text that is not the name of such a package will do",
    },
    "bench/measure.py": {
        ("bench", "`min` -> `max`"): "how often something is timed: the result does not depend on it",
    },
    "photo/shapes.py": {
        (
            "hull_area.chain",
            "`(x1 - x0) * (y - y0) > (y1 - y0) * (x - x0)` -> `(x1 - x0) * (y - y0) >= (y1 - y0) * (x - x0)`",
        ): "a corner on a straight side adds no area to the hull",
    },
    "train/callbacks.py": {
        ("ask_callbacks.ask", "`run.group.size > 1` -> `run.group.size >= 1`"): "it only saves time",
        (
            "ask_callbacks.ask",
            "`callbacks and run.group.size > 1` -> `callbacks or run.group.size > 1`",
        ): "it only saves time",
        ("ask_callbacks", "`run.group.rank > 0` -> `run.group.rank >= 0`"): "process 0 already has these values",
    },
    "train/debug.py": {
        (
            "_StepObserver.backward_begins",
            "`self._float64.argument('dy', dy)` -> deleted",
        ): "the trace of the called backward reports the same",
        ("_StepObserver.backward_begins", "`'dy'` -> `'dy_'`"): "the trace of the called backward reports first",
        (
            "_StepObserver.step_begins",
            "`self.end_step()` -> deleted",
        ): "contexts entered twice are both left at the end of the next step",
    },
    "train/fit.py": {
        ("fit", "`0` -> `1`"): "one thread is used for 0 multiplications as for 1",
        ("fit", "`group.size > 1` -> `group.size >= 1`"): "it only saves time",
    },
    "train/lines.py": {
        ("", "`'cupy'` -> `'cupy_'`"): "only observable on a machine with a GPU",
        ("", "`'cupyx'` -> `'cupyx_'`"): "only observable on a machine with a GPU",
        (
            "",
            "`'xpnet.losses'` -> `'xpnet.losses_'`",
        ): "a loss is called with its backend, by which it is recognised too",
        ("line_of_user", "`1` -> `2`"): "the skipped frame belongs to the package, whose frames are skipped anyway",
    },
    "train/metrics.py": {
        ("_sums", "`0` -> `1`"): "the replacement for a value of weight 0 is multiplied by 0",
    },
    "train/run.py": {
        ("described", "`''` -> `'_'`"): "any text may replace the addresses, as long as it is the same for all",
    },
    "train/step.py": {
        ("_in_parts", "`0` -> `1`"): "all inputs have the same number of samples, so any of them can be counted",
        (
            "_pass",
            "`backward(optimizer.scaled(dy), need_dx=False)` -> `backward(optimizer.scaled(dy))`",
        ): "it only saves time",
        ("_pass", "`False` -> `True`"): "need_dx, which only saves time",
    },
    "parallel/mpi.py": {
        ("", "`1.0` -> `2.0`"): "the seconds before an error is reported",
    },
    "weights/layouts.py": {
        ("_attention.rows", "`len(v) // C` -> `len(v) / C`"): "the division leaves no remainder: the same number",
    },
    "weights/reading.py": {
        (
            "arrays_of",
            "`value.element_size() < 4` -> `value.element_size() <= 4`",
        ): "converting float32 to float32 changes nothing",
        ("arrays_of", "`4` -> `5`"): "converting float32 to float32 changes nothing",
        ("unnumbered", "`'#'` -> `'#_'`"): "any text may replace the numbers",
    },
    "verify/cases/compose.py": {
        ("_resnet", "`1` -> `2`"): "the images are squares, and there is no second window",
    },
    "verify/cases/loss.py": {
        ("multi_margin", "`plain(h) > 0` -> `plain(h) >= 0`"): "none of the drawn values lies at the kink of its hinge",
    },
    "verify/cases/optimizer.py": {
        ("muon", "`0` -> `1`"): "all rows of a matrix have the same type and length",
    },
    "verify/gradcheck.py": {
        (
            "directional_error",
            "`found[0] <= allowed` -> `found[0] < allowed`",
        ): "where both are 0, the next step gives the same verdict",
        (
            "directional_error",
            "`abs(quotient - before) > allowed` -> `abs(quotient - before) >= allowed`",
        ): "both sides are sums of rounded numbers, which are not exactly equal",
        ("directional_error", "`1` -> `2`"): "another seed for random numbers",
    },
    "verify/invariants.py": {
        ("_inputs", "`'x'` -> `'x_'`"): "a key that is written and read under the same name",
    },
    "verify/parity.py": {
        ("_network", "`0` -> `1`"): "all inputs have the same number of samples, so any of them can be counted",
    },
    "verify/parity_training.py": {
        ("task_for", "`'iu'` -> `'iu_'`"): "no dtype has the kind _",
    },
    "verify/passes.py": {
        ("signs", "`1.0` -> `2.0`"): "other values to test with",
        ("", "`7` -> `8`"): "another seed for random numbers",
    },
    "verify/strict_array.py": {
        ("StrictArray.__int__", "`'int()'` -> `'int()_'`"): "only the text of an error message changes",
    },
    "nn/inputs.py": {
        ("check_dy", "`'shape'` -> `'shape_'`"): "it saves time only",
    },
    "onnx/structure.py": {
        ("GraphReader._follow", "`1` -> `2`"): "the order of the depths counts alone",
    },
    "onnx/writing.py": {
        (
            "to_onnx",
            "`onnx.checker.check_model(written, full_check=True)` -> `onnx.checker.check_model(written)`",
        ): "a check of what the package itself has written",
    },
    "serve/walk_routes.py": {
        (
            "StationSmall",
            "`Field(description='the layer with its settings')` -> `Field()`",
        ): "prose for who reads /docs",
    },
    "sklearn/workers.py": {
        ("fit_by", "`'xpnet-'` -> `'xpnet-_'`"): "how the name of a temporary folder begins",
    },
}
