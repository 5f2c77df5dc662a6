# SPDX-License-Identifier: Apache-2.0
"""The demo as its user has it: the command, a browser, five models with random weights."""

import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
TITLES = {"pix2pix": "Pix2Pix", "style": "Neural style", "stargan": "StarGAN"}
TITLES.update(whitebox="White-box", ugatit="U-GAT-IT")
WEIGHTS = {"pix2pix": "pix2pix", "style": "vgg.mat", "stargan": "stargan"}
WEIGHTS.update(whitebox="whitebox.npz", ugatit="ugatit")
# Notes each state of the painted picture as [is there, can be saved]: it may last for a moment.
WATCH = """panel => {
    window.states = [];
    const note = () => {
        const figures = [...panel.querySelectorAll("figure")];
        const painted = figures.find(figure => figure.textContent.includes("Painted"));
        const has = what => Boolean(painted && painted.querySelector(what));
        window.states.push([has("img"), has("a.save")]);
    };
    new MutationObserver(note).observe(panel, {childList: true, subtree: true});
}"""
KNOWN = ("Method not implemented.",)  # warnings of Gradio's own start, about a library in it
SLOW = 40_000  # milliseconds: a worker loads its framework first


def find_python(variable, name):
    path = os.environ.get(variable) or str(ROOT / ".venv" / name / "bin" / "python")
    if not os.path.isfile(path):
        pytest.skip("no %s: set %s, or python3 ci/environments.py %s" % (path, variable, name))
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder with the smallest weights of all models."""
    folder = tmp_path_factory.mktemp("tiny")
    program = str(Path(__file__).with_name("tiny_models.py"))
    for variable, name, kind in (
        ("TF2_PYTHON", "tf2", "tensorflow"),
        ("MS_PYTHON", "ms", "mindspore"),
    ):
        command = [find_python(variable, name), program, kind, str(ROOT), str(folder)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return folder


class Demo:
    """A started demo: its address, and the folder in which its private folder is."""

    def __init__(self, folder, words=(), **variables):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.temporary = folder
        command = [sys.executable, "-m", "tools.demo", "--port", str(port), *words]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=dict(os.environ, TMPDIR=str(folder), **variables),
            stdout=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline()
        self.address = "http://127.0.0.1:%d/" % port
        assert self.address in line, line

    def files(self):
        """Returns the files that are there now, the workers' logs aside."""
        found = [path for path in self.temporary.rglob("*") if path.is_file()]
        return [str(path) for path in found if path.name != "worker.log"]

    def workers(self):
        """Returns the process numbers of the workers."""
        done = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True
        )
        return [int(word) for word in done.stdout.split()]

    def end(self, number=signal.SIGTERM):
        """Sends a signal and returns the exit status."""
        self.process.send_signal(number)
        status = self.process.wait(30)
        self.process.stdout.close()
        return status


@pytest.fixture(scope="module")
def demo(tiny, tmp_path_factory):
    words = [
        word for n, path in WEIGHTS.items() for word in ("--weights", "%s=%s" % (n, tiny / path))
    ]
    started = Demo(tmp_path_factory.mktemp("temporary"), words)
    yield started
    assert started.end() == 0
    assert list(started.temporary.iterdir()) == []


@pytest.fixture
def opened(browser):
    """Opens pages; at the end none may have complained, or asked another machine."""
    contexts, complaints = [], []

    def complain(kind, text):
        if not any(known in text for known in KNOWN):
            complaints.append("%s: %s" % (kind, text))

    def on_request(request):
        if not request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            complain("request", request.url)

    def open_page(address, **words):
        contexts.append(browser.new_context(**words))
        page = contexts[-1].new_page()
        page.on("console", lambda m: complain(m.type, m.text) if m.type != "log" else None)
        page.on("pageerror", lambda error: complain("error", str(error)))
        page.on("request", on_request)
        page.goto(address)
        page.get_by_role("tab", name="Pix2Pix").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def choose(page, name):
    """Opens the tab of a model and returns it, once it knows its weights."""
    page.get_by_role("tab", name=TITLES[name]).click()
    panel = page.locator("#tab-" + name)
    weights, missing = panel.get_by_label("Weights"), panel.locator(".missing")
    for _ in range(100):
        if missing.count() or weights.input_value():
            return panel
        page.wait_for_timeout(100)
    pytest.fail("the page did not look for weights")


def draw(path, width=120, height=90, seed=0):
    rng = np.random.RandomState(seed)
    small = Image.fromarray(rng.randint(0, 256, (6, 8, 3)).astype(np.uint8))
    small.resize((width, height), Image.BICUBIC).save(str(path))
    return str(path)


def upload(panel, path, title="Before", number=0):
    panel.locator("input[type=file]").nth(number).set_input_files(path)
    panel.locator("figure", has_text=title).locator("img").wait_for()


def result(panel, action="Translate"):
    """Presses the button and returns the picture of the download."""
    panel.get_by_role("button", name=action, exact=True).click()
    return download(panel)


def download(panel, number=0):
    link = panel.locator("a.save").nth(number)
    link.wait_for(timeout=SLOW)
    with panel.page.expect_download() as info:
        link.click()
    assert info.value.suggested_filename.endswith(".png")
    return np.asarray(Image.open(io.BytesIO(Path(info.value.path()).read_bytes())))


def changed(panel, act):
    """Does something and returns the new download address after it."""
    address = panel.locator("a.save").first.get_attribute("href")
    act()
    for _ in range(100):
        panel.page.wait_for_timeout(100)
        link = panel.locator("a.save").first
        if link.count() and link.get_attribute("href") != address:
            return link.get_attribute("href")
    pytest.fail("the picture did not change")


def said(panel, words):
    panel.locator("[role=alert]", has_text=words).wait_for(timeout=SLOW)


def test_pix2pix_shows_the_translation_beside_the_picture(demo, opened, tmp_path):
    panel = choose(opened(demo.address, viewport={"width": 1200, "height": 900}), "pix2pix")
    panel.get_by_role("button", name="Translate", exact=True).click()
    said(panel, "drop one into Picture")
    upload(panel, draw(tmp_path / "my house.jpg"))
    assert result(panel).shape == (256, 256, 3)
    before, after = (panel.locator("figure").nth(i).bounding_box() for i in range(2))
    assert after["x"] >= before["x"] + before["width"]
    assert abs(after["y"] - before["y"]) < 2
    changed(panel, lambda: panel.get_by_label("As it is").check())
    assert download(panel).shape == (90, 120, 3)
    assert demo.files() == []


def test_switches_change_the_face(demo, opened, tmp_path):
    panel = choose(opened(demo.address), "stargan")
    names = panel.locator(".switches label").all_inner_texts()
    assert [name.strip() for name in names] == ["Black Hair", "Blond Hair", "Male", "Young"]
    upload(panel, draw(tmp_path / "face.png", 178, 218))
    first = result(panel)
    assert first.shape == (64, 64, 3)
    changed(panel, lambda: panel.get_by_label("Male").check())
    assert np.abs(download(panel).astype(int) - first).max() > 0
    changed(panel, lambda: panel.get_by_label("Black Hair").check())
    assert not panel.get_by_label("Blond Hair").is_checked(), "a face has one hair colour"
    assert demo.files() == []


def test_strength_changes_the_cartoon_at_once(demo, opened, tmp_path):
    panel = choose(opened(demo.address), "whitebox")
    noise = np.random.RandomState(3).randint(0, 256, (900, 1200, 3)).astype(np.uint8)
    Image.fromarray(noise).save(str(tmp_path / "large.png"))
    upload(panel, str(tmp_path / "large.png"))
    cartoon = result(panel, "Make a cartoon")
    assert cartoon.shape == (900, 1200, 3)
    slider = panel.locator("input[type=range]")
    changed(panel, lambda: slider.fill("0"))
    assert np.array_equal(download(panel), noise)
    changed(panel, lambda: slider.fill("0.5"))
    half = (cartoon.astype(np.float32) + noise) / 2
    assert np.abs(download(panel) - half).max() <= 0.5
    assert demo.files() == []


def test_ugatit_translates_both_ways_and_shows_its_attention(demo, opened, tmp_path):
    panel = choose(opened(demo.address), "ugatit")
    upload(panel, draw(tmp_path / "cat.png"))
    first = result(panel)
    assert first.shape == (32, 32, 3)
    attention = download(panel, 1)
    assert attention.shape == (32, 32, 3)
    assert attention.std() > 10, "a heat map has several colours"
    changed(panel, lambda: panel.get_by_label("B to A").check())
    assert np.abs(download(panel).astype(int) - first).max() > 0


def test_neural_style_shows_pictures_on_the_way_and_stops(demo, opened, tmp_path):
    panel = choose(opened(demo.address), "style")
    upload(panel, draw(tmp_path / "a.png", seed=1), "Content", 0)
    upload(panel, draw(tmp_path / "b.png", seed=2), "Style", -1)
    panel.get_by_label("number input for Width, pixels").fill("64")
    panel.get_by_label("number input for Iterations between previews").fill("5")
    panel.get_by_label("number input for Iterations", exact=True).fill("100")
    panel.evaluate(WATCH)
    panel.get_by_role("button", name="Paint", exact=True).click()
    assert download(panel).shape == (48, 64, 3)
    assert [True, False] in panel.page.evaluate("window.states"), "no picture was one on the way"
    panel.get_by_label("number input for Width, pixels").fill("256")  # slow enough to be stopped
    panel.get_by_label("number input for Iterations", exact=True).fill("1000")
    panel.get_by_role("button", name="Paint", exact=True).click()
    panel.locator(".note", has_text=re.compile(r"After \d\d+ iterations")).wait_for(timeout=SLOW)
    panel.get_by_role("button", name="Stop").click()
    panel.locator(".note", has_text="Stopped").wait_for(timeout=SLOW)
    assert download(panel).shape == (192, 256, 3)
    assert demo.files() == []


def test_hostile_uploads_and_wrong_paths_are_one_sentence_each(demo, opened, tmp_path):
    panel = choose(opened(demo.address), "whitebox")
    upload(panel, draw(tmp_path / "good.png"))
    (tmp_path / "text.png").write_text("<script>alert(1)</script>")
    panel.locator("input[type=file]").first.set_input_files(str(tmp_path / "text.png"))
    said(panel, "Text.png is no picture")
    assert panel.locator("figure img").count() == 1, "the picture before stays"
    weights = panel.get_by_label("Weights")
    weights.fill(str(tmp_path / "<b>none.npz"))
    weights.press("Enter")
    said(panel, "There is no")
    assert panel.locator("b", has_text="none").count() == 0
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 not a zip")
    weights.fill(str(tmp_path / "bad.npz"))
    weights.press("Enter")
    panel.locator("[role=alert]", has_text="There is no").wait_for(state="detached")
    panel.get_by_role("button", name="Make a cartoon", exact=True).click()
    said(panel, "bad.npz")
    assert demo.files() == []


def test_a_killed_worker_is_told_and_replaced(demo, opened, tmp_path):
    panel = choose(opened(demo.address), "whitebox")
    upload(panel, draw(tmp_path / "a.png"))
    result(panel, "Make a cartoon")
    for number in demo.workers():
        os.kill(number, signal.SIGKILL)
    panel.get_by_role("button", name="Make a cartoon").click()
    panel.locator(".note").first.wait_for(timeout=SLOW)
    changed(panel, lambda: panel.locator("input[type=range]").fill("0.2"))
    assert result(panel, "Make a cartoon").shape == (90, 120, 3)


def test_other_names_and_other_origins_get_no_page(demo):
    port = int(demo.address.rstrip("/").rsplit(":", 1)[1])
    for host, status in (("evil.example", b"400"), ("127.0.0.1:%d" % port, b"200")):
        with socket.create_connection(("127.0.0.1", port)) as line:
            line.sendall(b"GET / HTTP/1.0\r\nHost: %s\r\n\r\n" % host.encode())
            assert line.recv(100).split()[1] == status
    for path in ("etc/passwd", "proc/self/environ", str(ROOT / "README.md").lstrip("/")):
        with socket.create_connection(("127.0.0.1", port)) as line:
            request = "GET /gradio_api/file=/%s HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n" % path
            line.sendall(request.encode())
            assert line.recv(100).split()[1] in (b"403", b"404")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
def test_the_page_fits_and_follows_the_system(demo, opened, width, scheme):
    page = opened(demo.address, viewport={"width": width, "height": 900}, color_scheme=scheme)
    for name in TITLES:
        assert page.get_by_role("tab", name=TITLES[name]).is_visible()
        choose(page, name)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    levels = [int(word) for word in back[back.index("(") + 1 : -1].split(",")[:3]]
    assert (sum(levels) / 3 < 100) == (scheme == "dark")


def test_the_keyboard_reaches_everything(demo, opened):
    page = opened(demo.address)
    page.get_by_role("tab", name="Pix2Pix").focus()
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        script = "(e => (e.getAttribute('aria-label') || e.innerText || e.type || '').trim())"
        reached.append(page.evaluate(script + "(document.activeElement)"))
    for word in ("Weights", "Translate"):
        assert any(word in text for text in reached), (word, reached)
    assert any("Drop" in text or "upload" in text.lower() for text in reached), reached


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_page_and_its_folder(tmp_path, number):
    demo = Demo(tmp_path)
    assert list(tmp_path.iterdir()) != []
    assert demo.end(number) == 0
    assert list(tmp_path.iterdir()) == []


def test_missing_weights_say_which_and_how_to_get_them(opened, tmp_path):
    demo = Demo(tmp_path)
    try:
        page = opened(demo.address)
        for name in TITLES:
            panel = choose(page, name)
            if panel.get_by_label("Weights").input_value():
                continue  # this checkout has some
            note = panel.locator(".missing")
            note.wait_for()
            assert "No weights of %s were found" % TITLES[name] in note.inner_text()
            assert note.locator("pre").count() >= 2
    finally:
        assert demo.end(signal.SIGINT) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_killed_page_takes_its_workers_with_it(opened, tiny, tmp_path):
    (tmp_path / "t").mkdir()
    demo = Demo(tmp_path / "t", ["--weights", "whitebox=%s" % (tiny / "whitebox.npz")])
    page = opened(demo.address)
    panel = choose(page, "whitebox")
    upload(panel, draw(tmp_path / "a.png"))
    result(panel, "Make a cartoon")
    workers = demo.workers()
    assert len(workers) == 1
    page.context.close()
    demo.end(signal.SIGKILL)
    for _ in range(50):
        time.sleep(0.1)
        if not Path("/proc/%d" % workers[0]).exists():
            return
    pytest.fail("the worker outlived the page")
