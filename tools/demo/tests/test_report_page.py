# SPDX-License-Identifier: Apache-2.0
"""The page of a run in a browser: what moves, what changes, what it looks like."""

import pytest
from made_runs import make_case

from harness import report

SHARE_BEFORE = """(view) => {
  const box = view.getBoundingClientRect();
  const inset = getComputedStyle(view.querySelector(".after")).clipPath.match(/[\\d.]+%/)[0];
  return parseFloat(inset) / 100 * box.width / box.width;
}"""
CONTRASTS = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].reduce((sum, value, index) => {
    const part = value / 255;
    const linear = part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    return sum + linear * [0.2126, 0.7152, 0.0722][index];
  }, 0);
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = parse(getComputedStyle(one).backgroundColor);
      if (colour.length < 4 || colour[3] > 0.5) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || element.closest("script") || !element.getClientRects().length) continue;
    const style = getComputedStyle(element), isSvg = element instanceof SVGElement;
    const levels = [light(parse(isSvg ? style.fill : style.color)), light(behind(element))];
    levels.sort((a, b) => a - b);
    found.push([element.textContent.trim(), (levels[1] + 0.05) / (levels[0] + 0.05)]);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    make_case(folder, exit_status=1)
    report.write(str(folder))
    return (folder / "report.html").as_uri()


@pytest.fixture
def open_page(browser, address):
    """Opens the page; at the end there must have been no error and no request."""
    contexts, wrong = [], []

    def note_request(route):
        if route.request.url != address:
            wrong.append(route.request.url)
        route.continue_()

    def open_(**options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.route(lambda url: not url.startswith("data:"), note_request)
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(address)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert wrong == []


def traces(page):
    """Returns the lines as they are drawn, [{"name", "y", "opacity"}, ...], of the losses."""
    names = "({name, y, opacity}) => ({name, y: [...y], opacity})"
    return page.evaluate("document.querySelector('.plot').data.map(%s)" % names)


def test_the_slider_moves_by_mouse_touch_and_keys(open_page):
    page = open_page(has_touch=True)
    view = page.locator(".compare .view").first
    view.scroll_into_view_if_needed()
    box = view.bounding_box()
    assert view.evaluate(SHARE_BEFORE) == pytest.approx(0.5)
    y = box["y"] + box["height"] / 3
    page.mouse.move(box["x"] + box["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], y, steps=4)
    page.mouse.up()
    assert view.evaluate(SHARE_BEFORE) == pytest.approx(0.8, abs=0.02)
    page.touchscreen.tap(box["x"] + 0.25 * box["width"], y)
    assert view.evaluate(SHARE_BEFORE) == pytest.approx(0.25, abs=0.02)
    before = view.evaluate(SHARE_BEFORE)
    view.locator("input").press("ArrowRight")
    assert view.evaluate(SHARE_BEFORE) > before
    view.locator("input").press("Home")
    assert view.evaluate(SHARE_BEFORE) == 0


def test_another_pair_can_be_picked(open_page):
    page = open_page()
    assert page.locator(".pair:visible figcaption").all_text_contents() == ["1.jpg", "target"]
    page.locator(".picker input").first.press("ArrowRight")
    assert page.locator(".pair:visible figcaption").all_text_contents() == ["2.jpg", "target"]


def test_the_scrubber_shows_the_grid_of_its_step(open_page):
    page = open_page()
    shown = page.locator(".frame:visible")
    assert shown.get_attribute("data-step") == "300"
    last = shown.locator("img").get_attribute("src")
    page.locator(".scrub").press("ArrowLeft")
    assert shown.get_attribute("data-step") == "200"
    assert shown.locator("img").get_attribute("src") != last
    assert page.locator(".scrubber output").text_content() == "step 200"


def test_play_runs_through_the_steps_once(open_page):
    page = open_page()
    page.locator(".play").click()
    assert page.locator(".frame:visible").get_attribute("data-step") == "100"
    page.wait_for_selector('.frame[data-step="300"]', state="visible", timeout=5000)
    assert page.locator(".play").text_content() == "Play"


def test_the_logarithmic_scale_and_smoothing_change_the_curves(open_page):
    page = open_page()
    controls = page.locator("section.curves").first
    kind = "document.querySelector('.plot')._fullLayout.yaxis.type"
    assert page.evaluate(kind) == "log"  # as the losses are far apart
    controls.get_by_role("button", name="Log scale").click()
    assert page.evaluate(kind) == "linear"
    controls.locator(".smoothing").press("Home")
    assert [trace["name"] for trace in traces(page)] == ["d_loss", "g_l1"]
    raw = traces(page)[0]["y"]
    controls.locator(".smoothing").fill("0.9")
    assert controls.locator("output").text_content() == "0.90"
    faint, smoothed = traces(page)[:2]
    assert faint["y"] == raw
    expected, total, weight = [], 0.0, 0.0
    for value in raw:
        total, weight = 0.9 * total + 0.1 * value, 0.9 * weight + 0.1
        expected.append(total / weight)
    assert smoothed["y"] == pytest.approx(expected)


def test_pointing_at_a_step_shows_the_values_of_all_lines(open_page):
    page = open_page(viewport={"width": 1200, "height": 900})
    plot = page.locator(".plot").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 3)
    page.wait_for_selector(".hoverlayer .legend", timeout=5000)
    text = page.locator(".hoverlayer").first.text_content()
    assert "d_loss" in text
    assert "g_l1" in text
    assert "raw 30." in text


@pytest.mark.parametrize("width", [320, 400, 768, 1200, 1600])
def test_nothing_is_wider_than_the_window(open_page, width):
    page = open_page(viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    plot = page.locator(".plot").first.bounding_box()
    assert plot["width"] <= width
    assert page.locator(".plot svg.main-svg").first.bounding_box()["width"] <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_what_is_behind_it(open_page, scheme):
    page = open_page(color_scheme=scheme)
    page.locator("summary").click()
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 100
    assert [(text, ratio) for text, ratio in contrasts if ratio < 4.5] == []


def test_the_page_follows_the_system_while_it_is_open(open_page):
    page = open_page(color_scheme="light")
    colours = "[getComputedStyle(document.body).backgroundColor, "
    colours += "document.querySelector('.plot')._fullLayout.font.color]"
    light = page.evaluate(colours)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("(old) => %s[1] !== old" % colours, arg=light[1], timeout=5000)
    assert page.evaluate(colours)[0] != light[0]
    page.emulate_media(color_scheme="dark", media="print")
    page.wait_for_function("(old) => %s[1] === old" % colours, arg=light[1], timeout=5000)
    assert page.evaluate(colours) == light


def test_commands_can_be_copied(open_page):
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    command = page.locator(".command").filter(has_text="two words").first
    command.get_by_role("button").click()
    command.get_by_text("Copied").wait_for(timeout=5000)
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == "cd '/my data' && bash /models/test/full.sh '--name=two words'"


def test_a_command_that_was_not_copied_is_selected_and_not_called_copied(open_page):
    page = open_page()
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(Error('no')); }")
    page.evaluate("() => { document.execCommand = () => false; }")
    command = page.locator(".command").first
    command.get_by_role("button").click()
    command.get_by_text("Press Ctrl+C").wait_for(timeout=5000)
    assert page.evaluate("String(getSelection())") == command.locator("code").text_content()


@pytest.mark.parametrize("width", [320, 400, 1600])
def test_the_names_of_lines_overprint_nothing(open_page, width):
    page = open_page(viewport={"width": width, "height": 800})
    plot = page.locator(".plot").first
    plot.scroll_into_view_if_needed()
    names = plot.locator(".legend .legendtext").all()
    assert len(names) == 2
    boxes = [plot.locator(part).first.bounding_box() for part in (".xtitle", ".gridlayer")]
    for name in names:
        box = name.bounding_box()
        assert all(box["y"] + box["height"] <= other["y"] for other in boxes)


@pytest.mark.parametrize("decades", [0.5, 0.9, 1.2, 2.0, 3.0, 7.0])
def test_the_numbers_of_a_logarithmic_axis_do_not_overprint_each_other(open_page, decades):
    page = open_page(viewport={"width": 1600, "height": 900})
    change = """(top) => {
      plotted[0].data.lines.forEach((line, n) => { line.y = line.y.map(() => n ? top : 1); });
      draw(plotted[0]);
    }"""
    page.evaluate(change, 10**decades)
    ticks = [one.bounding_box() for one in page.locator(".plot").first.locator(".ytick text").all()]
    places = sorted((box["y"], box["y"] + box["height"]) for box in ticks)
    assert len(places) > 2
    assert all(end <= start for (_, end), (start, _) in zip(places, places[1:]))


def test_every_control_has_a_name(open_page):
    page = open_page()
    nameless = """[...document.querySelectorAll("input, button, section img")].filter((one) =>
      !(one.textContent.trim() || one.getAttribute("aria-label") || one.alt
        || one.closest("label"))).map((one) => one.outerHTML)"""
    assert page.evaluate(nameless) == []
