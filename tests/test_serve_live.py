"""The pages /train and /text in a real browser: a server with a model of text, and headless Chromium."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.request import Request, urlopen

import pytest

pytest.importorskip("fastapi", reason="the extra `web` is not installed")

from chromium import barriers, launched, needs_chromium, playwright
from test_serve_text import text_model

from xpnet import data

pytestmark = needs_chromium

expect = playwright.expect
NARROW_DARK, WIDE_LIGHT = ((390, 844), "dark"), ((1280, 800), "light")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "text.safetensors"
    text_model(dtype="float32").save(path)
    command = [sys.executable, "-u", "-m", "xpnet", "serve", str(path), "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        address = re.search(r"http://[\d.:]+", process.stdout.readline()).group()
        yield SimpleNamespace(address=address, pid=process.pid)
        with urlopen(Request(f"{address}/api/train", b'{"epochs": 200}')) as run:  # goes on while the server stops
            assert run.readline()
            process.terminate()
            said = process.stdout.read()
        assert "Traceback" not in said
        assert "exceeded" not in said  # uvicorn's line where it had to wait for longer than it would


@pytest.fixture(scope="module")
def browser():
    with launched() as chromium:
        yield chromium


@pytest.fixture
def opened(browser, server, request):
    """A function that opens a page. Afterwards: nothing in the console, and nothing asked of anybody else."""
    (width, height), scheme = getattr(request, "param", WIDE_LIGHT)
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page, console, asked = context.new_page(), [], []
    page.on("console", lambda message: console.append(message.text))
    page.on("pageerror", lambda error: console.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))

    def open_page(path):
        page.goto(server.address + path)
        return page

    yield open_page
    context.close()
    assert [line for line in console if "status of 422" not in line] == []
    assert [url for url in asked if not url.startswith(server.address)] == []


def fits(page):
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def choose(page, name, key, times=1):
    """Move a slider by the keyboard."""
    page.locator(f"#{name}").focus()
    for _ in range(times):
        page.keyboard.press(key)


def learners(server):
    """How many processes of the server are training (on Linux; elsewhere it is not looked at)."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            found += parent == server.pid and b"serve.learner" in (path.parent / "cmdline").read_bytes()
        except (OSError, ValueError):
            continue
    return found


def wait_until(true):
    for _ in range(200):
        if true():
            return True
        time.sleep(0.05)
    return False


# Training -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opened", [NARROW_DARK, WIDE_LIGHT], indirect=True, ids=["narrow dark", "wide light"])
def test_a_network_learns_before_ones_eyes(opened):
    page = opened("/train")
    expect(page.locator("#network")).to_have_text("64 → 32 → 32 → 10, 3,466 parameters")
    choose(page, "epochs", "Home")
    choose(page, "depth", "ArrowLeft")
    choose(page, "width", "ArrowLeft")
    choose(page, "rate", "ArrowRight")
    with page.expect_request("**/api/train") as asked:
        page.get_by_role("button", name="Start").press("Enter")
    assert asked.value.post_data_json == {"rate": 0.3, "width": 16, "depth": 1, "epochs": 10, "activation": "relu"}
    expect(page.locator("#epoch-is")).to_have_text("10 of 10")
    expect(page.get_by_role("button", name="Start")).to_be_visible()
    expect(page.locator("#curves-title")).to_have_text("digits, 64-16-10 relu, rate 0.3")
    expect(page.locator("#says")).to_have_text(re.compile(r"^9\d\.\d % right after epoch 10$"))
    lines = [line.get_attribute("points").split() for line in page.locator("#loss polyline").all()]
    assert [len(points) for points in lines] == [0, 11, 11]
    for points in lines[1:]:  # the loss falls: on the screen, y grows downwards
        assert float(points[-1].split(",")[1]) > float(points[0].split(",")[1])
    expect(page.locator("#accuracy")).to_have_attribute("aria-label", re.compile(r"held out from \d\.\d % to 9"))
    expect(page.locator("#weights")).to_have_attribute(
        "aria-label", re.compile(r"^Weights of 16 units, the largest \d")
    )
    expect(page.locator("#wrong-are")).to_contain_text(f"of the {len(data.load('digits').test)} held-out digits")
    wrong = int(page.locator("#wrong-are").inner_text().split()[0])
    assert page.locator("#misread li").count() == min(wrong, 24)
    expect(page.locator("#misread span").first).to_have_text(re.compile(r"^\d as \d, \d+ %$"))
    assert fits(page)
    assert barriers(page) == ""

    now = page.locator("#held-out-accuracy").inner_text()
    choose(page, "epoch", "Home")  # back to the beginning
    expect(page.locator("#epoch-is")).to_have_text("0 of 10")
    assert page.locator("#held-out-accuracy").inner_text() != now
    assert page.locator("#wrong-are").inner_text().startswith("3")  # hundred and some
    choose(page, "epoch", "End")
    expect(page.locator("#held-out-accuracy")).to_have_text(now)


def test_a_rate_that_is_too_high_is_shown_as_what_it_does(opened):
    page = opened("/train")
    choose(page, "rate", "End")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("alert")).to_contain_text(
        re.compile(r"The run has ended\. Step \d+: a NaN or an infinity in .*\. Try a smaller learning rate\.$")
    )
    expect(page.get_by_role("button", name="Start")).to_be_visible()


def test_a_loss_near_0_is_shown_and_one_of_0_has_no_place_on_a_logarithmic_axis(opened, server):
    with urlopen(Request(f"{server.address}/api/train", b'{"epochs": 1}')) as run:
        epoch = json.loads(run.readline())
    lines = [epoch | {"epoch": i, "training_loss": loss} for i, loss in enumerate((2.3, 0.00004, 0))]
    page = opened("/train")
    page.route("**/api/train", lambda route: route.fulfill(body="".join(f"{json.dumps(line)}\n" for line in lines)))
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#training-loss")).to_have_text("0.000")
    assert len(page.locator("#loss .training-line").first.get_attribute("points").split()) == 2
    assert len(page.locator("#loss .held-out-line").first.get_attribute("points").split()) == 3
    choose(page, "epoch", "ArrowLeft")
    expect(page.locator("#training-loss")).to_have_text("4.0e-5")


def test_stop_ends_the_run_and_so_does_leaving_the_page(opened, server):
    page = opened("/train")
    choose(page, "epochs", "End")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#epoch-is")).to_have_text(re.compile("[2-9] of 200"))
    assert page.request.get(f"{server.address}/api/model").ok  # others are answered meanwhile
    if sys.platform == "linux":
        assert learners(server) == 1
    choose(page, "depth", "ArrowRight")  # begins again, with the run so far beside it
    expect(page.locator("#before-is")).to_have_text("held out, the run before (64-32-32-10 relu, rate 0.1)")
    expect(page.locator("#epoch-is")).to_have_text(re.compile("[2-9] of 200"))
    expect(page.locator("#curves-title")).to_contain_text("64-32-32-32-10")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Start")).to_be_visible()
    assert wait_until(lambda: learners(server) == 0)
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#epoch-is")).to_have_text(re.compile("[2-9] of 200"))
    page.goto("about:blank")
    assert wait_until(lambda: learners(server) == 0)


def test_a_run_that_never_began_leaves_the_one_before_in_place(opened):
    page = opened("/train")
    title, alert = page.locator("#curves-title"), page.get_by_role("alert")
    choose(page, "epochs", "Home")
    page.route("**/api/train", lambda route: route.fulfill(status=422, json={"error": "busy: so it is"}))
    page.get_by_role("button", name="Start").click()
    expect(alert).to_have_text("Busy: so it is")
    expect(page.locator("#says")).to_have_text("Nothing learnt yet")
    page.unroute("**/api/train")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#epoch-is")).to_have_text("10 of 10")
    expect(alert).to_have_text("")
    expect(page.get_by_role("button", name="Start")).to_be_visible()
    says = page.inner_text("#says")
    choose(page, "rate", "ArrowRight")
    page.route("**/api/train", lambda route: route.fulfill(status=422, json={"error": "busy: again"}))
    page.get_by_role("button", name="Start").click()
    expect(alert).to_have_text("Busy: again")
    expect(page.locator("#says")).to_have_text(says)
    assert title.inner_text() == "digits, 64-32-32-10 relu, rate 0.1"
    assert page.locator("#before-key").is_hidden()


def test_a_run_that_is_stopped_does_not_begin_again(opened):
    page = opened("/train")
    expect(page.locator("#curves-title")).to_have_text("digits, 64-32-32-10 relu, rate 0.1")
    choose(page, "rate", "ArrowRight")
    expect(page.locator("#curves-title")).to_have_text("digits, 64-32-32-10 relu, rate 0.3")  # of the run to come
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#epoch-is")).to_have_text(re.compile("[2-9] of 40"))
    choose(page, "rate", "ArrowRight")
    page.keyboard.press("Enter")  # before the run has begun again with it
    expect(page.get_by_role("button", name="Start")).to_be_visible()
    page.wait_for_timeout(600)
    assert page.get_by_role("button", name="Start").is_visible()
    assert page.inner_text("#curves-title") == "digits, 64-32-32-10 relu, rate 0.3"


# Text ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opened", [NARROW_DARK, WIDE_LIGHT], indirect=True, ids=["narrow dark", "wide light"])
def test_a_text_is_written_on_and_looked_into(opened):
    page = opened("/text")
    expect(page.locator("#next tr")).to_have_count(6)
    page.locator("#text").fill("ab ab")
    expect(page.locator("#line button")).to_have_count(5)
    expect(page.locator(".heads button")).to_have_count(5)  # of two layers
    page.get_by_role("button", name="Draw one character").click()
    expect(page.locator("#line button")).to_have_count(6)
    page.get_by_role("button", name="Write 200").click()
    expect(page.get_by_role("button", name="Write 200")).to_be_visible()
    assert len(page.locator("#text").input_value()) == 206
    expect(page.locator("#line button")).to_have_count(8)  # what the model has room for

    page.locator("#line button").nth(3).click()  # looks back
    expect(page.locator("#line button[aria-pressed=true]")).to_have_count(1)
    labels = [cell.get_attribute("aria-label") for cell in page.locator("#line button").all()]
    assert [label.endswith("later") for label in labels] == [False] * 4 + [True] * 4
    assert sum(float(re.search(r"([\d.]+) %", label)[1]) for label in labels[:4]) == pytest.approx(100, abs=0.5)
    page.keyboard.press("ArrowRight")
    expect(page.locator("#value")).to_contain_text("comes later than")
    page.keyboard.press("Home")
    expect(page.locator("#value")).to_contain_text(re.compile(r"takes [<>\d. ]+ % of .* \(1\)"))
    head = page.get_by_role("button", name=re.compile("^Layer 2, head 3: "))
    head.press("Enter")
    expect(head).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#value")).to_contain_text("Layer 2, head 3: ")
    box = head.locator("canvas").bounding_box()
    page.mouse.move(box["x"] + 0.05 * box["width"], box["y"] + 0.95 * box["height"])
    expect(page.locator("#value")).to_contain_text(re.compile(r"\(8\) takes .* \(1\)"))
    page.mouse.move(box["x"] + 0.95 * box["width"], box["y"] + 0.05 * box["height"])
    expect(page.locator("#value")).to_contain_text(re.compile(r"\(1\) may not read .* \(8\): it comes later"))
    assert fits(page)
    assert barriers(page) == ""


def test_the_temperature_flattens_what_comes_next(opened):
    page = opened("/text")
    best = page.locator("#next tr.best td").last
    expect(best).to_be_visible()
    choose(page, "temperature", "Home")
    expect(page.locator("#temperature-is")).to_have_text("0.1")
    expect(best).to_have_text(re.compile("9|100"))
    sharp = float(best.inner_text().strip("<> %"))
    choose(page, "temperature", "End")
    expect(best).not_to_have_text(re.compile("^(> 9|9|100)"))
    assert float(best.inner_text().strip("<> %")) < sharp


def test_the_temperature_that_was_chosen_last_is_shown(opened):
    page = opened("/text")
    best = page.locator("#next tr.best td").last
    expect(best).to_be_visible()
    held = []
    page.route("**/api/text", lambda route: route.continue_() if held else held.append(route))
    choose(page, "temperature", "Home")
    with page.expect_response("**/api/text"):
        choose(page, "temperature", "End")
    expect(best).not_to_have_text(re.compile("^(> 9|9|100)"))
    flat = best.inner_text()
    with page.expect_response("**/api/text"):
        held[0].continue_()
    page.wait_for_timeout(200)
    assert best.inner_text() == flat

    held.clear()
    page.get_by_role("button", name="Draw one character").click()  # and meanwhile:
    choose(page, "temperature", "Home")
    held[0].continue_()
    expect(page.locator("#line button")).to_have_count(2)
    expect(best).to_have_text(re.compile("^(> 9|9|100)"))


def test_a_character_that_the_model_does_not_know_is_named(opened):
    page = opened("/text")
    page.locator("#text").fill("ab!")
    expect(page.get_by_role("alert")).to_have_text("The model has never seen '!'")
    found = page.locator("#next, #others, #line, #layers")
    assert not any(part.is_visible() for part in found.all())  # it is about the text before
    page.locator("#text").fill("")
    expect(page.get_by_role("alert")).to_have_text("Write at least one character to begin with.")
    page.locator("#text").fill("ab")
    expect(page.get_by_role("alert")).to_have_text("")
    assert all(part.is_visible() for part in found.all() if part.inner_text())
    expect(page.locator("#next tr.best")).to_be_visible()


def test_a_text_is_still_there_after_a_reload(opened):
    page = opened("/text")
    page.locator("#text").fill("ab ab")
    expect(page.locator("#line button")).to_have_count(5)
    page.reload()
    expect(page.locator("#line button")).to_have_count(5)
    assert page.locator("#text").input_value() == "ab ab"
    page.get_by_role("button", name="Draw one character").click()
    expect(page.locator("#line button")).to_have_count(6)
    text = page.locator("#text").input_value()
    page.reload()
    expect(page.locator("#line button")).to_have_count(6)
    assert page.locator("#text").input_value() == text
    page.locator("#text").fill("of another model!")
    page.reload()
    expect(page.locator("#line button")).to_have_count(1)  # what the page begins with


def test_without_a_model_of_text_the_page_says_how_to_make_one(opened):
    opened("/train").route("**/api/text/model", lambda route: route.fulfill(json={"model": None}))
    page = opened("/text")
    expect(page.locator("#none")).to_be_visible()
    expect(page.locator("#none")).to_contain_text("python examples/char_gpt.py --save text.safetensors")
    assert page.locator("#writing").is_hidden()
    assert barriers(page) == ""
