"""What a run says while it goes, on a terminal and elsewhere."""

from __future__ import annotations

import io
import re
import sys

from xpnet.train.progress import Reporter, figures_line

ROW = {"epoch": 2, "train_loss": 0.5, "train_accuracy": 0.875, "lr": 0.01, "seconds": 1.5}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def terminal_of(monkeypatch):
    """Not a fixture: pytest sets `sys.stderr` between a test and its fixtures."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "stderr", Terminal())
    return sys.stderr


def test_a_bar_counts_the_batches_of_all_epochs(monkeypatch):
    terminal = terminal_of(monkeypatch)
    with Reporter(epochs=3, n_batches=5, quiet=False) as reporter:
        [task] = reporter._bar.tasks
        assert (task.completed, task.total, task.description, task.fields["numbers"]) == (0, 15, "epoch 1", "")
        reporter.batches(1, 2, 0.25, {"accuracy": 0.5}, 0.01)
        assert (task.completed, task.total, task.description) == (7, 15, "epoch 2/3")
        assert task.fields["numbers"] == "loss 0.2500  accuracy 50.00%  rate 0.01"
        reporter.epoch(ROW)
        reporter.note("said once")
        reporter.note("")
    assert reporter._bar.finished is False
    assert not reporter._bar.live.is_started
    shown = terminal.getvalue()
    assert "epoch   2/3  loss 0.5000  accuracy 87.50%  rate 0.01  1.50 s" in shown
    assert "said once" in shown
    assert re.search(r"epoch 2/3 .*7/15", shown)
    assert shown.endswith("\x1b[2K")  # the bar is taken away in the end


def test_plain_lines_where_there_is_no_terminal(capsys):
    with Reporter(epochs=3, n_batches=5, quiet=False) as reporter:
        reporter.batches(1, 2, 0.25, {}, 0.01)
        reporter.epoch(ROW | {"validation_loss": 0.75})
        reporter.note("said once")
        reporter.note("")
    line = "epoch   2/3  loss 0.5000  accuracy 87.50%  validation loss 0.7500  rate 0.01  1.50 s"
    assert capsys.readouterr() == ("", f"{line}\nsaid once\n")


def test_each_line_can_be_read_at_once(monkeypatch):
    """Where standard error is a file, as under nohup, it would else come in blocks."""
    seen, stream = [], io.StringIO()
    monkeypatch.setattr(stream, "flush", lambda: seen.append(stream.getvalue().count("\n")))
    monkeypatch.setattr(sys, "stderr", stream)
    with Reporter(epochs=3, n_batches=5, quiet=False) as reporter:
        reporter.epoch(ROW)
        reporter.note("said once")
    assert seen == [1, 2]


def test_nothing_if_it_is_quiet_or_nobody_listens(monkeypatch):
    terminal = terminal_of(monkeypatch)
    with Reporter(3, 5, quiet=True) as reporter:
        reporter.batches(1, 2, 0.25, {}, 0.01)
        reporter.epoch(ROW)
        reporter.note("said once")
    assert terminal.getvalue() == ""
    monkeypatch.setattr(sys, "stderr", None)
    with Reporter(3, 5, quiet=False) as reporter:
        reporter.epoch(ROW)


def test_figures_in_words():
    assert figures_line("train_", {"train_loss": 1 / 3, "train_accuracy": 0.98765, "lr": 1.0}) == (
        "loss 0.3333  accuracy 98.77%"
    )
    assert figures_line("", {"mae": 2.0}) == "mae 2.0000"
