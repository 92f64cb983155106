"""The page /network of `xpnet serve` in a real browser: a walk through the network, forward and backward."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("fastapi", reason="the extra `web` is not installed")

from chromium import barriers, needs_chromium, playwright
from test_serve_browser import IN_SIGHT, LIGHT_AND_DARK, address, browser, fits, page, says  # noqa: F401 (fixtures)

pytestmark = needs_chromium

CONVOLUTIONS = ["Conv2d", "BatchNorm", "ReLU"] * 4
KINDS = ["Image", "Standardize", "Reshape", *CONVOLUTIONS, "Flatten", "Linear", "ReLU", "Linear", "Loss"]
OUTPUTS, LOSS = len(KINDS) - 2, len(KINDS) - 1
expect = playwright.expect


@pytest.fixture
def network(page):  # noqa: F811
    page.goto(page.url.rstrip("/") + "/network")
    page.wait_for_selector("#station:not([hidden])")
    return page


def at(page, kind, direction="forward"):  # noqa: F811
    expect(page.locator("#kind")).to_have_text(kind)
    expect(page.locator("#step")).to_contain_text(f": {kind}, {direction}")


def number(text):
    return float(text.replace("−", "-").replace("×", "").split()[-1])


def test_the_walk_goes_through_every_layer_to_the_loss_and_back(network):
    seen = []
    for _ in KINDS:
        seen.append(network.text_content('[aria-selected="true"] .kind'))
        at(network, seen[-1])
        network.click("#next")
    assert seen == KINDS
    at(network, "Loss", "backward")
    network.click("#next")
    at(network, "Linear", "backward")
    network.click("#previous")
    at(network, "Loss", "backward")
    network.click("#previous")
    at(network, "Loss", "forward")
    expect(network.locator("#next")).to_be_enabled()


def test_a_number_is_worked_out_and_adds_up(network):
    network.click(f"#station-{OUTPUTS}")
    at(network, "Linear")
    expect(network.locator(".outputs button")).to_have_count(10)
    network.click(".outputs button:nth-child(8)")
    expect(network.locator("#unit-title")).to_have_text("The output for 7")
    shown = number(network.inner_text("#unit-value"))
    products = network.locator("#unit-table tbody td:last-child").all_inner_texts()
    *sums, total = network.locator("#unit-table tfoot td:last-child").all_inner_texts()
    assert len(products) == 12
    assert len(sums) == 2  # the others, and the bias
    assert sum(map(number, products + sums)) == pytest.approx(shown, abs=1e-3)
    assert number(total) == shown
    assert number(network.inner_text(".outputs button:nth-child(8)")) == shown


def test_the_way_back_begins_at_the_class_that_is_chosen(network):
    network.select_option("#target", "5")
    network.click(f"#station-{LOSS}")
    expect(network.locator("#values-title")).to_contain_text("The loss for 5 is")
    network.click("#backward")
    network.click("#next")
    at(network, "Linear", "backward")
    expect(network.locator("#unit-value")).to_have_text("Gradient −1.0000")
    expect(network.locator("#unit-maps canvas")).to_have_count(2)
    network.click("#next")
    at(network, "ReLU", "backward")
    expect(network.locator("#unit-note")).to_contain_text("the gradients of 10 numbers that it goes into")
    total = network.inner_text("#unit-table .total td:last-child")
    assert network.inner_text("#unit-value") == f"Gradient {total}"


def test_of_a_network_that_gives_probabilities_the_loss_says_so(network):
    def answer(route):
        response = route.fetch()
        whole = response.json()
        route.fulfill(response=response, json=whole | {"outputs": whole["probabilities"]})

    formula = network.locator("#formula")
    network.click(f"#station-{LOSS}")
    expect(formula).to_contain_text("Softmax makes probabilities of the outputs")
    network.route("**/api/walk", answer)
    network.select_option("#target", "5")
    expect(formula).to_contain_text("The outputs are probabilities already.")
    network.click("#backward")
    network.click("#next")
    expect(network.locator("#unit-note")).to_contain_text("The loss gives this gradient: −1 / the probability.")


def test_attention_shows_a_map_of_its_weights_for_each_head(network):
    rows = [[0.25, 0.75], [1.0, 0.0]]
    attention = {"shape": [3, 2, 2], "block": 1, "numbers": [rows, rows, rows]}

    def answer(route):
        response = route.fetch()
        route.fulfill(response=response, json=response.json() | {"attention": attention})

    network.route("**/api/walk/layer", answer)
    network.click("#next")
    maps = network.locator("#values canvas")
    expect(maps).to_have_count(2)
    expect(maps.last).to_have_attribute("aria-label", "Attention weights of 3 heads")
    maps.last.focus()
    network.keyboard.press("ArrowUp")
    expect(network.locator(".tip")).to_have_text("Head 0: position 0 reads 0, 25.0 %")
    network.click("#backward")
    expect(maps).to_have_count(1)


@pytest.mark.parametrize(("rows", "columns"), [(8, 2), (2, 8)])
def test_a_map_that_is_tall_or_wide_lies_in_its_frame_and_on_the_line(network, rows, columns):
    def answer(route):
        response = route.fetch()
        whole = response.json()
        numbers = [[[100 * (-1) ** i] * columns for i in range(rows)]]
        whole["stations"][0] |= {"preview": numbers, "gradient_preview": numbers}
        route.fulfill(response=response, json=whole)

    network.route("**/api/walk", answer)
    network.select_option("#target", "5")
    expect(network.locator("#station-1 .values .n5")).to_have_count(1)
    box = lambda part: network.locator(f"#station-1 {part}").bounding_box()
    edge, frame, cells = box(".values .edge"), box(".frame"), [box(".values .n5"), box(".values .p5")]
    ends = lambda box: (box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"])
    within = [
        pick(sides) for pick, sides in zip((min, min, max, max), zip(*map(ends, cells), strict=True), strict=True)
    ]
    assert ends(edge) == pytest.approx(within, abs=1.5)
    left, top, right, bottom = ends(frame)
    assert left < within[0] < within[2] < right
    assert top < within[1] < within[3] < bottom
    other = network.locator("#station-0 .values .edge").bounding_box()
    assert edge["y"] + edge["height"] / 2 == pytest.approx(other["y"] + other["height"] / 2, abs=1)


def test_the_arrow_keys_step_and_move_from_cell_to_cell(network):
    for _ in range(3):
        network.keyboard.press("ArrowRight")
    at(network, "Conv2d")
    network.locator("#values canvas").focus()
    network.keyboard.press("ArrowLeft")
    tip = network.locator(".tip")
    expect(tip).to_have_text(re.compile(r"map \d+, row \d+, column \d+: −?\d"))
    expect(network.locator("#spoken")).to_have_text(tip.inner_text())
    place, value = tip.inner_text().split(": ")
    network.keyboard.press("Enter")
    expect(network.locator("#unit-title")).to_have_text(place.replace("map", "Map"))
    expect(network.locator("#unit-value")).to_have_text(value)
    at(network, "Conv2d")
    expect(network.locator("#unit-maps figcaption").last).to_have_text("Weights")
    network.locator("#station-3").focus()
    network.keyboard.press("ArrowLeft")
    at(network, "Reshape")
    assert network.evaluate("document.activeElement.id") == "station-2"


def test_a_digit_of_the_drawing_page_comes_along(page):  # noqa: F811
    page.get_by_role("button", name="Write a 8").click()
    says(page, "This is 8")
    page.get_by_role("link", name="Walk through the network").click()
    page.wait_for_selector("#station:not([hidden])")
    expect(page.locator("#target")).to_have_value("8")
    page.get_by_role("button", name="Example 2").click()
    expect(page.locator("#target")).to_have_value("2")


def test_a_server_that_is_gone_is_said_to_be(network):
    network.route("**/api/walk/layer", lambda route: route.abort())
    network.click("#next")
    expect(network.locator("#problem")).to_contain_text("Is xpnet still running?")


LOOKS = [{"size": "narrow"}, {"size": "low", "scheme": "dark"}, {"size": "wide"}, {"size": "wide", "scheme": "dark"}]


@pytest.mark.parametrize("page", LOOKS, indirect=True, ids=lambda look: " ".join(look.values()))
def test_the_page_has_no_barriers_and_fits(network):
    for station in ("#station-3", f"#station-{OUTPUTS}", f"#station-{LOSS}"):
        network.click(station)
        at(network, KINDS[int(station.split("-")[1])])
        network.wait_for_timeout(300)
        assert barriers(network) == ""
        assert fits(network)
    assert network.evaluate(IN_SIGHT, [f"#station-{LOSS}"]) == []


def test_the_numbers_fit_on_the_narrowest_phone(network):
    network.set_viewport_size({"width": 320, "height": 568})
    for direction in ("#forward", "#backward"):
        network.click(direction)
        for station in ("#station-3", f"#station-{OUTPUTS}", f"#station-{LOSS}"):
            network.click(station)
            at(network, KINDS[int(station.split("-")[1])], direction[1:])
            network.wait_for_timeout(300)
            within = "(t) => t.getBoundingClientRect().right <= t.closest('section').getBoundingClientRect().right - 8"
            assert all(table.evaluate(within) for table in network.locator(".numbers:visible").all())
            assert fits(network)


# The main page ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [{"scheme": scheme} for scheme in LIGHT_AND_DARK], indirect=True)
def test_a_click_on_another_digit_answers_why_it_is_not_that(page):  # noqa: F811
    page.get_by_role("button", name="Write a 3").click()
    says(page, "This is 3")
    expect(page.locator("#inside-title")).to_have_text("Why")
    page.get_by_role("button", name="8: why not?").click()
    expect(page.locator("#inside-title")).to_have_text("Why not 8?")
    expect(page.locator("#reason")).to_have_text(
        re.compile(
            r"^The output for 8 is [\d.]+ below that for 3\. The ink at the [a-z ]+ speaks most for 8 \(\+[\d.]+\)"
        )
    )
    expect(page.locator("#contribution")).to_have_attribute("aria-label", re.compile("is for 8"))
    assert barriers(page) == ""
    page.get_by_role("button", name="3: why not?").click()
    expect(page.locator("#inside-title")).to_have_text("Why")
    expect(page.locator("#reason")).to_be_hidden()


def test_ink_for_and_against_may_be_at_one_place(page):  # noqa: F811
    def answer(route):
        response = route.fetch()
        contribution = [[0.0] * 28 for _ in range(28)]
        contribution[14][2], contribution[15][3] = 1.0, -2.0
        route.fulfill(response=response, json=response.json() | {"contribution": contribution})

    page.get_by_role("button", name="Write a 3").click()
    page.wait_for_selector("#layer-list li")
    page.route("**/api/explain", answer)
    page.get_by_role("button", name="8: why not?").click()
    expect(page.locator("#reason")).to_contain_text(
        "The ink at the left speaks most for 8 (+1.00), other ink there most against it (−2.00)."
    )


def test_an_explanation_that_comes_late_is_not_shown(page):  # noqa: F811
    page.get_by_role("button", name="Write a 3").click()
    page.wait_for_selector("#layer-list li")
    held = []
    page.route("**/api/explain", lambda route: route.continue_() if held else held.append(route))
    page.get_by_role("button", name="8: why not?").click()
    page.get_by_role("button", name="5: why not?").click()
    expect(page.locator("#inside-title")).to_have_text("Why not 5?")
    with page.expect_response("**/api/explain"):
        held[0].continue_()
    page.wait_for_timeout(200)
    assert page.inner_text("#inside-title") == "Why not 5?"


def test_the_maps_tell_their_values(page):  # noqa: F811
    page.get_by_role("button", name="Write a 1").click()
    says(page, "This is 1")
    page.wait_for_selector("#layer-list li")
    box = page.locator("#seen").bounding_box()
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    expect(page.locator(".tip")).to_have_text("row 0, column 0: 0 of 255")
    page.locator("#contribution").focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator(".tip")).to_have_text(re.compile(r"row \d+, column \d+: contribution "))
    page.keyboard.press("Tab")
    expect(page.locator(".tip")).to_have_text(re.compile(r"row \d+, column \d+: gradient "))
