"""What reaches the terminal, and what Ctrl-C and a closed output do."""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import POSIX, call, elsewhere  # noqa: F401
from PIL import Image
from rich.cells import cell_len

import xpnet
from xpnet import nn
from xpnet.cli import console
from xpnet.cli.console import check_file, command, in_percent, print_text, printable, quoted

pytestmark = pytest.mark.usefixtures("elsewhere")

NASTY = "\x1b[31mred\x1b[0m \x9b2J\x07 \u202egnp.exe \x00\x7f\r"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ümläut and 漢字: 😀\n\tx", "plain, ümläut and 漢字: 😀\n\tx"),
        ("\x1b[2J", "\\x1b[2J"),
        (NASTY, "\\x1b[31mred\\x1b[0m \\x9b2J\\x07 \\u202egnp.exe \\x00\\x7f\\r"),
        ("\udcff", "\\udcff"),  # a byte of a file's name that is no letter
    ],
)
def test_what_would_command_the_terminal_is_shown_as_an_escape(text, shown):
    assert printable(text, "utf-8") == shown


def test_letters_that_the_terminal_lacks_are_escaped():
    assert printable("漢\x1b", "ascii") == "\\u6f22\\x1b"


class Output(io.TextIOWrapper):
    is_terminal = False

    def isatty(self):
        return self.is_terminal


@pytest.mark.parametrize(
    ("is_terminal", "written"), [(True, b"\\u0142 caf\xe9\n\\x1b[31m"), (False, "ł café\n\x1b[31m".encode())]
)
def test_what_programs_are_to_read_is_utf_8_and_for_a_terminal_as_it_can_show_it(monkeypatch, is_terminal, written):
    output = Output(io.BytesIO(), encoding="cp1252", newline="")
    output.is_terminal = is_terminal
    monkeypatch.setattr("sys.stdout", output)
    output.write("> ")
    print_text("ł café\n\x1b[31m")
    output.flush()
    assert output.buffer.getvalue() == b"> " + written


def test_names_of_classes_and_files_are_printed_without_their_escape_codes():
    network = nn.Sequential(nn.Flatten(), nn.Linear(10))
    model = nn.Model(network, (8, 8), xpnet.select("cpu"), [f"{NASTY}{i}" for i in range(10)])
    model.save("model.safetensors")
    Image.effect_noise((8, 8), 60).save("image.png")
    outputs = [
        call("predict", "model.safetensors", "image.png").stdout,
        call("evaluate", "model.safetensors", "--data", "digits").stdout,
        call("predict", "model.safetensors", "\x1b[31m.png", code=1).stderr,
        call("evaluate", "\x1b[31m.safetensors", code=1).stderr,
        call("train", "--data", "\x1b[31m", code=2).stderr,
    ]
    for output in outputs:
        assert "\\x1b[31m" in output
        assert output.replace("\n", "").replace("\t", "").isprintable()


def test_names_of_classes_break_no_line():
    network = nn.Sequential(nn.Flatten(), nn.Linear(10))
    names = ["sev\nen", "a\tb", "\x1b[2J", "牡丹花", *"456789"]
    nn.Model(network, (8, 8), xpnet.select("cpu"), names).save("model.safetensors")
    title, head, *rows = call("evaluate", "model.safetensors", "--data", "digits").stdout.splitlines()
    assert "accuracy" in title
    assert [row.split()[0] for row in rows] == ["sev\\nen", "a\\tb", "\\x1b[2J", "牡丹花", *"456789"]
    assert {cell_len(row) for row in rows} == {cell_len(head)}, "places of a terminal, of which such a letter takes two"


@POSIX
def test_names_of_files_break_no_line():
    Image.effect_noise((28, 28), 60).save("im\nage.png")
    assert call("predict", "im\nage.png").stdout.count("\n") == 1
    for name in ("a\nb", "c"):
        for i in range(2):
            Path("pets", name).mkdir(parents=True, exist_ok=True)
            Image.effect_noise((8, 8), 60).save(Path("pets", name, f"{i}.png"))
    assert "  a\\nb: 2, c: 1\n" in call("data", "pets").stdout


def test_doctor_prints_without_escape_codes(monkeypatch):
    monkeypatch.setenv("XPNET_CACHE", "/dev/null/\x1b[31m")
    out = call("doctor", code=1).stdout
    assert "\n          XPNET_CACHE=/dev/null/\\x1b[31m\n" in out
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (1.0, "100.0%"),
        (0.99951, "> 99.9%"),
        (0.9994, "99.9%"),
        (0.5, "50.0%"),
        (0.0006, "0.1%"),
        (0.0004, "< 0.1%"),
        (0.0, "0.0%"),
    ],
)
def test_what_is_not_certain_never_reads_as_if_it_were(fraction, text):
    assert in_percent(fraction) == text


@pytest.mark.parametrize("platform", ["linux", "win32"])
def test_a_path_is_one_word_of_a_command(monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(console.shutil, "which", lambda name: "/usr/bin/xpnet")
    assert command("predict", Path("a_b-1.png"), Path("c")) == "xpnet predict a_b-1.png c"
    assert command("predict", Path("a b"), Path("c")) == (
        'xpnet predict "a b" c' if platform == "win32" else "xpnet predict 'a b' c"
    )


def test_a_path_is_nothing_that_the_shell_does(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("a;b$(x)", "it's", "`x`&", "*", '"', "a b"):
        assert shlex.split(quoted(Path("runs", name))) == [str(Path("runs", name))]
        assert quoted(Path(name)) != name


def test_a_command_works_where_it_is_printed(monkeypatch, tmp_path):
    monkeypatch.setattr(console.shutil, "which", lambda name: "/usr/bin/xpnet")
    assert command("predict", Path("a b"), Path("c")) == f"xpnet predict {quoted(Path('a b'))} c"
    monkeypatch.setattr(console.shutil, "which", lambda name: None)
    script = tmp_path / "my env" / "xpnet"
    script.parent.mkdir()
    script.touch(0o755)
    monkeypatch.setattr(sys, "argv", [str(script), "train"])
    assert command("predict", Path("c")) == f"{quoted(script)} predict c"
    monkeypatch.setattr(sys, "argv", ["/somewhere/xpnet/__main__.py", "train"])
    assert command("predict", Path("c")) == f"{sys.executable} -m xpnet predict c"


def test_a_closed_standard_output_is_a_line(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(console.Failed, match="standard output is closed"):
        console.print_json({})
    console.say("nobody reads this")


ANSWERS = [["doctor", "--json"], ["predict", "digit.png"], ["evaluate", "model.safetensors"]]  # to be read, or lost


@POSIX
@pytest.mark.parametrize("arguments", [["data"], ["doctor"], ["--help"], *ANSWERS])
def test_a_closed_standard_output_is_no_traceback(arguments):
    started = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "xpnet", *arguments]
    done = subprocess.run(started, stderr=subprocess.PIPE, text=True)
    assert "Traceback" not in done.stderr
    assert ("standard output is closed" in done.stderr) == (arguments in ANSWERS) == done.returncode


# Ctrl-C -------------------------------------------------------------------------------------------------------

INTERRUPTED = """
import os, signal, sys

module, ignored = sys.argv[1:]

class Interrupt:
    def find_spec(self, name, *rest):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
sys.meta_path.insert(0, Interrupt())
from xpnet.cli import main
sys.argv[1:] = ["train", "--epochs", "1", "--quiet"]
main()
"""


@POSIX
@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("numpy", r"xpnet: interrupted"),
        ("xpnet.cli.app", r"xpnet: interrupted"),
        ("xpnet.cli.results", r"xpnet: interrupted"),
        ("matplotlib", r"xpnet: interrupted\. The work is kept\. To go on: .* train --resume runs/digits-1"),
    ],
    ids=["at the very start", "at the start", "before the training", "while images are drawn"],
)
def test_ctrl_c_is_a_line_and_1_from_the_start(module, line):
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, module, ""], capture_output=True, text=True)
    assert done.returncode == 1
    assert re.fullmatch(line + "\n", done.stderr)


@POSIX
def test_ctrl_c_stays_ignored_where_it_is_to_be():
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, "xpnet.cli.app", "ignored"], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_ctrl_c_in_any_command_is_a_line_and_1(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("xpnet.cli.data.load", interrupted)
    assert call("data", "digits", code=1).stderr == "xpnet: interrupted\n"
    assert call("train", code=1).stderr == "xpnet: interrupted\n"
    assert not os.path.exists("runs")


def test_what_is_written_takes_the_place_of_its_own_kind_alone(tmp_path):
    for name in ("new.html", "NEW.HTML"):
        check_file("--html", tmp_path / name, ".html")
    with pytest.raises(ValueError, match=r"--html: the file to write must be called something\.html, not .*model\.sa"):
        check_file("--html", tmp_path / "model.safetensors", ".html")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        check_file("--html", tmp_path / "nowhere" / "new.html", ".html")


def test_paths_in_commands_are_no_options():
    assert quoted(Path("-dash/model.safetensors")) == "./-dash/model.safetensors"
