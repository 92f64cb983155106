"""The page of `xpnet serve` in a real browser: a server of its own, and headless Chromium."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageDraw

pytest.importorskip("fastapi", reason="the extra `web` is not installed")

from chromium import barriers, launched, needs_chromium, playwright

pytestmark = needs_chromium

SIZES = {"narrow": (390, 844), "low": (640, 400), "middle": (800, 600), "wide": (1280, 800)}
LIGHT_AND_DARK = ("light", "dark")

# In hundredths of the pad
ZERO = [(50 + 19 * np.sin(t), 50 - 31 * np.cos(t)) for t in np.linspace(0, 6.3, 25)]
THREE = [(34, 26), (47, 18), (62, 24), (62, 38), (48, 47), (63, 53), (67, 67), (55, 81), (41, 81), (32, 74)]

# With the arrow keys: slantwise with two of them held
SIDES = [("Right Down", 3), ("Down", 14), ("Down Left", 3), ("Left", 4), ("Left Up", 3), ("Up", 14), ("Up Right", 3)]
ROUND_ZERO = [("Right", 2), *SIDES, ("Right", 2)]


@pytest.fixture(scope="module")
def address():
    """Where a server with the model that comes with the package is listening."""
    command = [sys.executable, "-u", "-m", "xpnet", "serve", "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        found = re.search(r"http://[\d.:]+", server.stdout.readline())
        yield found and found.group()
        server.terminate()
        assert "Traceback" not in server.stdout.read()


@pytest.fixture(scope="module")
def browser():
    with launched() as chromium:
        yield chromium


@pytest.fixture
def page(browser, address, request):
    """The page, freshly opened, and afterwards: nothing in the console, and nothing asked of anybody else."""
    options = {"size": "wide", "scheme": "light"} | getattr(request, "param", {})
    width, height = SIZES[options["size"]]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=options["scheme"],
        has_touch=options["size"] == "narrow",
    )
    page, seen = context.new_page(), SimpleNamespace(console=[], requests=[])
    page.on("console", lambda message: seen.console.append(message.text))
    page.on("pageerror", lambda error: seen.console.append(str(error)))
    page.on("request", lambda asked: seen.requests.append(asked.url))
    page.goto(address)
    page.wait_for_selector("#bars tr")
    yield page
    page.unroute_all(behavior="wait")  # what a test answers itself is answered before the page goes
    context.close()
    own = re.compile("status of 422|net::ERR_FAILED")  # Chromium's lines for what the tests do on purpose
    assert [line for line in seen.console if not own.search(line)] == []
    assert [url for url in seen.requests if not url.startswith((address, "blob:"))] == []
    assert len(seen.requests) >= 8


def on_the_pad(page, points):
    box = page.locator("#pad").bounding_box()
    return [(box["x"] + box["width"] * x / 100, box["y"] + box["height"] * y / 100) for x, y in points]


def draw(page, points):
    first, *rest = on_the_pad(page, points)
    page.mouse.move(*first)
    page.mouse.down()
    for point in rest:
        page.mouse.move(*point, steps=3)
    page.mouse.up()


def says(page, text):
    """Wait until the answer reads so."""
    playwright.expect(page.locator("#says")).to_have_text(text)


def fits(page):
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def photo(*digits):
    """A JPEG of digits side by side in uneven light."""
    image = Image.new("L", (300 * len(digits), 340), 210)
    for i, points in enumerate(digits):
        at = [(300 * i + 3 * x, 20 + 3 * y) for x, y in points]
        ImageDraw.Draw(image).line(at, fill=45, width=20, joint="curve")
    light = np.linspace(0.7, 1.1, image.width)
    file = io.BytesIO()
    Image.fromarray((np.asarray(image) * light).clip(0, 255).astype(np.uint8)).save(file, "JPEG")
    return {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": file.getvalue()}


DROP = """(bytes) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([new Uint8Array(bytes)], "photo.jpg", { type: "image/jpeg" }));
    for (const kind of ["dragover", "drop"])
        document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""

ALL_LOOKS = [
    pytest.param({"size": size, "scheme": scheme}, id=f"{size} {scheme}") for size in SIZES for scheme in LIGHT_AND_DARK
]


@pytest.mark.parametrize("page", ALL_LOOKS, indirect=True)
def test_a_digit_is_drawn_and_read(page):
    says(page, "Nothing drawn yet")
    assert fits(page)
    draw(page, THREE)
    says(page, "This is 3")
    numeral, best, why = page.evaluate(  # at one moment: every stroke is read while it is drawn
        "['#numeral', '#bars tr.best', '#why'].map((part) => document.querySelector(part).textContent)"
    )
    assert numeral == "3"
    assert f"{best[1:]} sure" == why
    assert float(best[1:].strip("> %")) > 35
    page.wait_for_selector("#layer-list li")
    layers = page.locator("#layer-list b").all_inner_texts()
    assert layers[0] == "Standardize"
    assert layers[-1] == "Linear"
    described = [canvas.get_attribute("aria-label") for canvas in page.locator("#layer-list canvas").all()]
    assert described[0].startswith("Standardize: 784 numbers")
    assert described[-1].startswith("Linear: 10 numbers")
    playwright.expect(page.locator("#contribution")).to_have_attribute("aria-label", re.compile("is for 3"))
    assert fits(page)
    playwright.expect(page.locator("#spoken")).to_contain_text("This is 3")


def test_no_arrow_leads_from_the_end_of_a_branch_to_the_next(page):
    """The layers of a `Parallel` come one after the other; each branch begins with what the first began with."""
    inside = "layers.1.branches"
    paths = ["layers.0", f"{inside}.0.layers.0", f"{inside}.0.layers.1", f"{inside}.1.layers.0", f"{inside}.1.layers.1"]

    def answer(route):
        response = route.fetch()
        explained = response.json()
        few = zip(explained["layers"], [*paths, f"{inside}.2", "layers.2"], strict=False)
        route.fulfill(response=response, json=explained | {"layers": [layer | {"path": path} for layer, path in few]})

    page.route("**/api/explain", answer)
    draw(page, THREE)
    page.wait_for_selector("#layer-list li.apart")
    arrows = """(expected) => JSON.stringify([...document.querySelectorAll('#layer-list li')].map(
        (one) => getComputedStyle(one, '::before').content.includes('→'))) === JSON.stringify(expected)"""
    page.wait_for_function(arrows, arg=[False, True, True, False, True, False, True])  # a later answer may come first


IN_SIGHT = """(parts) => parts.filter((part) => {
    const box = document.querySelector(part).getBoundingClientRect();
    return box.width === 0 || box.top < 0 || box.bottom > innerHeight || box.left < 0 || box.right > innerWidth;
})"""


@pytest.mark.parametrize("page", ALL_LOOKS, indirect=True)
@pytest.mark.parametrize("digits", [1, 3])
def test_the_pad_the_answer_and_the_explanation_are_on_one_screen(page, digits):
    if digits == 1:
        draw(page, THREE)
    else:
        page.set_input_files("#file", photo(THREE, ZERO, THREE))
    says(page, f"This is {'303'[:digits]}")
    page.wait_for_selector("#layer-list li")
    parts = ["#stage", ".examples", "#numeral", "#says", "#bars", "#seen", "#contribution", "#gradient", ".maps"]
    assert page.evaluate(IN_SIGHT, parts) == []
    assert fits(page)


@pytest.mark.parametrize("page", [{"scheme": scheme} for scheme in LIGHT_AND_DARK], indirect=True)
@pytest.mark.parametrize("path", ["/", "/docs"])
def test_axe_finds_no_barriers(page, path):
    page.goto(page.url.rstrip("/") + path)
    if path == "/":
        page.wait_for_selector("#bars tr")
        page.set_input_files("#file", photo(THREE, ZERO))
        page.wait_for_selector("#layer-list li")
    else:
        page.wait_for_selector("h2 code")
    assert barriers(page) == ""


def test_a_tap_leaves_a_dot_and_no_error(page):
    refused = []
    page.on("response", lambda response: response.ok or refused.append(response.url))
    draw(page, [(50, 50)])
    says(page, "No digit found")
    assert page.locator("#why").inner_text()[0].isupper()
    assert page.evaluate("document.querySelector('#pad').getContext('2d').getImageData(512, 512, 1, 1).data[3]") == 255
    assert refused == []


def test_a_digit_may_reach_from_edge_to_edge(page):
    draw(page, [(15, 0), (85, 0), (40, 100)])
    says(page, "This is 7")
    page.get_by_role("button", name="Clear").click()
    for i in range(2):
        draw(page, [(x + 40 * i, y) for x, y in ((15, 0), (45, 0), (25, 100))])
    playwright.expect(page.locator("#found button")).to_have_text(["7", "7"])
    first = page.locator("#boxes i").first.evaluate("({ style }) => [style.left, style.top, style.right, style.bottom]")
    assert np.allclose([float(side.strip("%")) for side in first], [11, -1, 51, -1], atol=2.5)


def test_every_example_is_read_as_what_it_is(page):
    for digit in "0123456789":
        page.get_by_role("button", name=f"Write a {digit}").click()
        says(page, f"This is {digit}")


def test_the_scheme_changes_the_colours(browser, address):
    colours = {}
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(address)
        background = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        colours[scheme] = [int(n) for n in re.findall(r"\d+", background)]
        page.close()
    assert min(colours["light"]) > 200
    assert max(colours["dark"]) < 60


def test_undo_clear_and_the_eraser(page):
    undo, clear = page.get_by_role("button", name="Undo"), page.get_by_role("button", name="Clear")
    assert undo.is_disabled()
    assert clear.is_disabled()
    draw(page, ZERO)
    says(page, "This is 0")
    clear.click()
    says(page, "Nothing drawn yet")
    assert page.locator("#inside").is_hidden()
    undo.click()
    says(page, "This is 0")
    page.get_by_role("button", name="Eraser").click()
    for y in range(10, 95, 8):
        draw(page, [(20, y), (80, y)])
    says(page, "No answer")
    playwright.expect(page.locator("#why")).to_have_text("All one colour, so there is nothing to read in it")


def test_a_drawing_is_still_there_after_a_reload_and_a_look_at_another_page(page):
    draw(page, THREE)
    says(page, "This is 3")
    page.reload()
    says(page, "This is 3")
    page.get_by_role("link", name="Train", exact=True).click()
    page.get_by_role("link", name="Draw", exact=True).click()
    says(page, "This is 3")
    draw(page, [(80, 20), (80, 80)])
    page.get_by_role("button", name="Undo").click()
    says(page, "This is 3")
    page.get_by_role("button", name="Clear").click()
    says(page, "Nothing drawn yet")
    page.reload()
    says(page, "Nothing drawn yet")


def test_a_browser_that_keeps_nothing_reads_all_the_same(page):
    forbidden = "{ get() { throw new DOMException('Access is denied.', 'SecurityError'); } }"
    page.add_init_script(f"Object.defineProperty(window, 'sessionStorage', {forbidden})")
    page.reload()
    draw(page, THREE)
    says(page, "This is 3")


def test_without_room_for_a_drawing_an_older_one_does_not_come_back(page):
    draw(page, THREE)
    says(page, "This is 3")
    page.evaluate("() => { Storage.prototype.setItem = () => { throw new DOMException('', 'QuotaExceededError'); } }")
    draw(page, [(80, 20), (80, 80)])
    assert page.evaluate("sessionStorage.getItem('xpnet drawing')") is None
    page.reload()
    says(page, "Nothing drawn yet")


@pytest.mark.parametrize("page", [{"size": "narrow"}], indirect=True)
def test_a_finger_draws(page):
    session = page.context.new_cdp_session(page)
    for i, (x, y) in enumerate(on_the_pad(page, THREE)):
        kind = "touchMove" if i else "touchStart"
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    says(page, "This is 3")
    assert page.evaluate("scrollY") == 0


def test_a_dropped_photo_is_read_from_left_to_right(page):
    page.evaluate(DROP, list(photo(THREE, ZERO)["buffer"]))
    says(page, "This is 30")
    assert page.inner_text("#why").startswith("Digit 1 of 2, 3: ")
    found = page.locator("#found button")
    assert found.all_inner_texts() == ["3", "0"]
    assert page.locator("#photo-image").is_visible()
    left, right = (page.locator("#boxes i").nth(i).bounding_box() for i in range(2))
    stage = page.locator("#stage").bounding_box()
    assert stage["x"] < left["x"] < left["x"] + left["width"] < right["x"] < stage["x"] + stage["width"]
    found.nth(1).click()
    playwright.expect(page.locator("#why")).to_contain_text("Digit 2 of 2, 0: ")
    says(page, "This is 30")
    assert page.inner_text("#numeral") == "0"
    assert found.nth(1).get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name="Back to drawing").click()
    says(page, "Nothing drawn yet")
    assert page.locator("#photo").is_hidden()


def test_a_photo_that_was_taken_away_is_not_read(page):
    held = []
    page.route("**/api/read", lambda route: held.append(route))
    page.set_input_files("#file", photo(THREE))
    says(page, "Reading the photo")
    page.evaluate(
        """() => {
            window.said = [];
            const says = document.querySelector("#says");
            new MutationObserver(() => said.push(says.textContent)).observe(says, { childList: true });
        }"""
    )
    page.get_by_role("button", name="Back to drawing").click()
    with page.expect_response("**/api/read"):
        held[0].continue_()
    says(page, "Nothing drawn yet")
    assert set(page.evaluate("said")) == {"Nothing drawn yet"}


def test_a_photo_is_chosen_and_a_bad_one_is_explained(page):
    page.set_input_files("#file", photo(ZERO))
    says(page, "This is 0")
    page.set_input_files("#file", {"name": "text.png", "mimeType": "image/png", "buffer": b"no image"})
    says(page, "This could not be read")
    playwright.expect(page.locator("#why")).to_contain_text(re.compile("Not an image file"))
    assert page.locator("#inside").is_hidden()
    shown = page.evaluate("getComputedStyle(document.querySelector('#photo'), '::after').content")
    assert shown == '"This browser cannot show this file."'


def test_a_page_without_digits_is_said_to_have_none(page):
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200), np.uint8)).save(noise, "PNG")
    page.set_input_files("#file", {"name": "noise.png", "mimeType": "image/png", "buffer": noise.getvalue()})
    says(page, "No digit found")
    assert page.inner_text("#why")
    assert page.locator("#bars td:last-child").all_inner_texts() == ["–"] * 10


def test_the_keyboard_alone_is_enough(page):
    order = []
    for _ in range(13):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    pages = ["Draw", "Network", "Train", "Text", "JSON API"]
    assert order == ["xpnet", *pages, "pad", "pen", "eraser", "choose", "0", "1", "2"]
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the example 3
    says(page, "This is 3")

    page.locator("#pad").focus()
    page.keyboard.press("Delete")
    says(page, "Nothing drawn yet")
    page.keyboard.press("Space")
    playwright.expect(page.locator("#spoken")).to_have_text("Pen down")
    for keys, times in ROUND_ZERO:
        for _ in range(times):
            for key in keys.split():
                page.keyboard.down(f"Arrow{key}")
        for key in keys.split():
            page.keyboard.up(f"Arrow{key}")
    page.keyboard.press("Space")
    says(page, "This is 0")
    page.keyboard.press("u")
    says(page, "Nothing drawn yet")
    page.keyboard.press("5")
    says(page, "This is 5")


def test_what_can_be_operated_has_a_name_and_a_size(page):
    draw(page, THREE)
    page.wait_for_selector("#layer-list li")
    page.set_viewport_size({"width": 360, "height": 760})
    snapshot = page.locator("body").aria_snapshot()
    for part in ("application", 'button "Pen" [pressed]', 'button "Write a 7"', 'table "How likely', "status"):
        assert part in snapshot
    for button in page.get_by_role("button").all():
        box = button.bounding_box()
        assert box["width"] >= 24  # WCAG 2.2, success criterion 2.5.8
        assert box["height"] >= 24
    assert page.evaluate("[...document.images].every((image) => image.alt)")


def test_less_motion_is_respected(browser, address):
    page = browser.new_page(reduced_motion="reduce")
    page.goto(address)
    page.wait_for_selector("#bars tr")
    duration = page.locator("#bars i").first.evaluate("(bar) => getComputedStyle(bar).transitionDuration")
    page.close()
    assert duration == "0s"


def test_a_server_that_is_gone_is_said_to_be(page):
    page.route("**/api/read", lambda route: route.abort())
    page.locator("#pad").focus()
    page.keyboard.press("1")
    says(page, "No answer")
    playwright.expect(page.locator("#why")).to_contain_text("Is xpnet still running?")


def test_a_slow_answer_is_waited_for_in_words(page):
    held = []
    page.route("**/api/read", lambda route: held.append(route))
    page.get_by_role("button", name="Write a 3").click()
    says(page, "Reading the drawing")
    held[0].continue_()
    says(page, "This is 3")


def test_what_is_pressed_is_seen_in_forced_colours(browser, address):
    page = browser.new_page(forced_colors="active")
    page.goto(address)
    page.wait_for_selector("#bars tr")
    pen, eraser = (
        page.locator(tool).evaluate("(button) => getComputedStyle(button).backgroundColor")
        for tool in ("#pen", "#eraser")
    )
    page.close()
    assert pen != eraser


@pytest.mark.parametrize("page", [{"size": "narrow"}, {"size": "wide"}], indirect=True)
def test_the_description_of_the_api_is_readable(page):
    page.get_by_role("link", name="JSON API").click()
    playwright.expect(page.locator("h2 code")).to_contain_text(["/api/model", "/api/read", "/api/explain", "/api/walk"])
    assert "curl --data-binary @photo.jpg http://127.0.0.1" in page.inner_text("#try")
    assert "the class, or null if the model is unsure" in page.inner_text("main")
    for width in (320, page.viewport_size["width"], 500, 640, 720):
        page.set_viewport_size({"width": width, "height": 800})
        assert fits(page)
