"""The dashboard as its readers have it: a real browser before the built proxy, and what its buttons do to users.

Each case is a function whose name is a sentence; all of them share one proxy and one browser, and run in the order in which they stand.
"""

import http.client
import http.server
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

from webdriver import Browser

STRANGLER = os.environ["STRANGLER"]
AXE = pathlib.Path(os.environ["AXE"]).read_text() if os.environ.get("AXE") else None
SHOTS = os.environ.get("SHOTS")
WIDTHS = (1280, 390)
EVIL = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>"

ROUTES = """
version: 1
upstreams:
  monolith: {endpoints: ["http://127.0.0.1:%(legacy)d"]}
  carts: {endpoints: ["http://127.0.0.1:%(extracted)d"]}
legacy: monolith
routes:
  - {name: cart, match: "GET /cart/{id}", owner: team-carts, extracted: carts, weight: 10%%, shadow: true,
     compare: {keep: {values: ["/**"], target: [path]}}}
  - {name: prices, match: "GET /prices/{id}", extracted: carts, shadow: true, compare: true}
  - {name: climb, match: "GET /climb/{id}", extracted: carts, shadow: true, compare: true, rollout: {}}
"""


def backend(side):
    """Answers with its name; its carts differ from the other side's."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            total = 9781 if side == "legacy" else 9782
            body = {"total_cents": total, "note": "plain" if side == "legacy" else EVIL} if self.path.startswith("/cart") else {"ok": True}
            data = json.dumps(body).encode()
            self.send_response(200)
            for name, value in (("content-type", "application/json"), ("content-length", str(len(data))), ("x-side", side)):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


class Estate:
    """Two sides, and the proxy between them."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.front, self.admin = free_port(), free_port()
        self.routes = self.folder / "routes.yaml"
        self.text = ROUTES % {"legacy": backend("legacy"), "extracted": backend("extracted")}
        self.routes.write_text(self.text)
        state = self.folder / "state"
        env = {name: value for name, value in os.environ.items() if not name.startswith("STRANGLER_")}
        self.log = (self.folder / "log").open("w")
        self.process = subprocess.Popen(
            [STRANGLER, "run", "--routes", self.routes, "--state-dir", state, "--listen", f"127.0.0.1:{self.front}",
             "--admin", f"127.0.0.1:{self.admin}", "--threads", "1", "--access-log", "off"],
            env=env, stdout=subprocess.DEVNULL, stderr=self.log)
        until = time.monotonic() + 30
        while self.ask(self.admin, "GET", "/readyz")[0] != 200:
            assert time.monotonic() < until, (self.folder / "log").read_text()
            time.sleep(0.1)
        self.token = (state / "admin-token").read_text().strip().splitlines()[-1]

    def ask(self, port, method, path, body=None, headers=None):
        try:
            it = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            it.request(method, path, body, headers or {})
            answer = it.getresponse()
            return answer.status, answer.getheaders(), answer.read().decode(errors="replace")
        except OSError:
            return 0, [], ""

    def api(self, path):
        return json.loads(self.ask(self.admin, "GET", path, headers={"authorization": f"Bearer {self.token}"})[2])

    def shop(self, count=60):
        """So many different users; how many of them extracted answered."""
        sides = [dict(self.ask(self.front, "GET", f"/cart/{user}")[1]).get("x-side") for user in range(count)]
        for user in range(count // 4):
            self.ask(self.front, "GET", f"/prices/{user}")
            self.ask(self.front, "GET", f"/climb/{user}")
        assert None not in sides, "a user was not answered"
        return sides.count("extracted")

    def end(self):
        self.process.terminate()
        self.process.wait(30)
        self.log.close()


class Desk:
    """A person before the dashboard."""

    def __init__(self, estate, browser):
        self.estate, self.browser = estate, browser
        self.base = f"http://127.0.0.1:{estate.admin}"

    def open(self, path):
        self.browser.open(self.base + path)

    def path(self):
        url = urllib.parse.urlsplit(self.browser.url())
        return url.path + (f"?{url.query}" if url.query else "")

    def comes_to(self, path):
        # Without scripts the driver does not wait for what a click loads.
        until = time.monotonic() + 20
        while self.path() != path:
            assert time.monotonic() < until, self.path()
            time.sleep(0.05)

    def log_in(self, token=None):
        self.open("/login")
        self.browser.type("#token", token or self.estate.token)
        self.browser.type("#name", "ann")
        self.browser.click(".confirm button")

    def quiet(self, where):
        said = self.browser.complaints()
        assert not said, f"{where}: the console says {said}"


def the_overview_is_open_and_its_numbers_come_by_themselves(desk):
    desk.open("/")
    desk.browser.wait("the live numbers", "return document.getElementById('beat').dataset.state === 'live'")
    before = desk.browser.run("window.marked = document.querySelector('[data-k=\"t.pairs\"]').firstChild; return marked.textContent")
    desk.estate.shop()
    desk.browser.wait("a new number", f"return document.querySelector('[data-k=\"t.pairs\"]').textContent !== {json.dumps(before)}")
    assert desk.browser.run("return document.querySelector('[data-k=\"t.pairs\"]').isConnected")
    desk.quiet("/")


def what_needs_a_login_asks_for_it_and_comes_back(desk):
    for path in ("/divergences", "/audit", "/endpoints", "/routes/cart/plan?act=kill"):
        desk.open(path)
        assert desk.path().startswith("/login?next="), desk.path()
    desk.log_in("not the token")
    assert "not the admin plane" in desk.browser.text("[role=alert]")
    desk.browser.complaints()  # The browser notes the 401, as it should.
    desk.open("/audit")
    desk.browser.type("#token", desk.estate.token)
    desk.browser.type("#name", "ann")
    desk.browser.press("\ue007")
    desk.browser.wait("the audit", "return location.pathname === '/audit'")
    desk.quiet("/login")


def every_page_is_quiet_fits_and_can_be_read_by_all(desk):
    desk.estate.shop()
    desk.browser.wait("a pair that differed", "return true")
    until = time.monotonic() + 30
    while not desk.estate.api("/api/v1/divergences?route=cart")["divergences"]:
        assert time.monotonic() < until, "nothing was found to differ"
        desk.estate.shop(20)
        time.sleep(0.3)
    pair = desk.estate.api("/api/v1/divergences?route=cart")["divergences"][0]["id"]
    pages = {
        "overview": "/", "route": "/routes/cart", "rollout": "/routes/climb", "plan": "/routes/cart/plan?act=weight&weight=20",
        "divergences": "/divergences", "pair": f"/divergences/{pair}", "config": "/config?method=GET&url=/cart/7",
        "audit": "/audit", "endpoints": "/endpoints", "proxy": "/proxy", "fault": "/routes/none",
    }
    for scheme in ("light", "dark"):
        desk.browser.scheme(scheme)
        for width in WIDTHS:
            desk.browser.size(width)
            for name, path in pages.items():
                desk.open(path)
                if name == "fault":
                    desk.browser.complaints()  # The browser notes the 404, as it should.
                where = f"{name} at {width}, {scheme}"
                over = desk.browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
                assert over <= 0, f"{where}: {over} pixels too wide"
                assert desk.browser.run("return document.title") != "owned", f"{where}: captured bytes were run"
                assert desk.browser.run("return document.querySelectorAll('main img, main script').length") == 0, where
                if AXE:
                    accessible(desk, where)
                if SHOTS:
                    desk.browser.picture(f"{SHOTS}/{name}-{width}-{scheme}.png")
                desk.quiet(where)
    desk.browser.scheme("light")
    desk.browser.size(1280)


def accessible(desk, where):
    desk.browser.run(AXE)
    found = desk.browser.run_async("const done = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then(it => done(it.violations.map("
                                   "one => [one.id, one.nodes.slice(0, 3).map(node => node.html + ' ' + node.any.map(why => why.message).join('; '))])))")
    assert not found, f"{where}: {json.dumps(found, indent=1)}"


def the_keyboard_reaches_everything(desk):
    desk.open("/")
    desk.browser.press("\ue004")
    assert desk.browser.run("return document.activeElement.className") == "skip", "the first stop leads to the content"
    desk.browser.press("\ue007")
    assert desk.browser.run("return location.hash") == "#main"
    desk.open("/")
    seen = []
    for _ in range(40):
        desk.browser.press("\ue004")
        seen.append(desk.browser.run("const it = document.activeElement; return it === document.body ? ['', ''] : [it.textContent.trim().slice(0, 20) || it.id, getComputedStyle(it).outlineStyle]"))
    words = [word for word, _ in seen]
    assert "cart" in words and "Divergences" in words and "q" in words, words
    assert all(style != "none" for word, style in seen if word), [word for word, style in seen if style == "none"]


def the_filter_finds_with_and_without_script(desk):
    desk.open("/")
    desk.browser.type("#q", "team-carts")
    shown = "return [...document.querySelectorAll('table.routes tbody tr')].filter(row => !row.hidden).length"
    assert desk.browser.run(shown) == 1
    desk.open("/?q=pri")
    assert desk.browser.run(shown) == 1


def change(desk, act, **fields):
    desk.open(f"/routes/cart/plan?{urllib.parse.urlencode({'act': act, **fields})}")
    desk.browser.type("#reason", f"trying {act}")
    desk.browser.click(".confirm button")
    desk.comes_to("/routes/cart?done=stored")
    desk.quiet(act)


def each_control_moves_users(desk):
    assert 0 < desk.estate.shop(200) < 60
    desk.open("/routes/cart")
    desk.browser.type("#weight", "100")
    desk.browser.click(".acts form button")
    assert "90 of 100 users go from legacy to extracted" in desk.browser.text(".move")
    change(desk, "weight", weight="100")
    assert desk.estate.shop(40) == 40
    change(desk, "kill")
    assert desk.estate.shop(40) == 0
    desk.open("/")
    assert "killed" in desk.browser.text("#alarms")
    change(desk, "unkill")
    assert desk.estate.shop(40) == 40
    change(desk, "weight", weight="file")
    assert desk.estate.shop(100) < 40
    audit = [entry["what"] for entry in desk.estate.api("/api/v1/audit")["audit"][:4]]
    assert audit == ["weight", "unkill", "kill", "weight"], audit


def they_work_without_script_too(desk):
    desk.browser.scripts(False)
    try:
        change(desk, "kill")
        assert desk.estate.shop(20) == 0
        change(desk, "unkill")
        desk.open("/")
        assert "as loaded" in desk.browser.text("#beat")
    finally:
        desk.browser.scripts(True)


def another_sites_page_changes_nothing(desk):
    class Evil(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            page = f"""<!doctype html><title>evil</title><form id=f method=post action="{desk.base}/routes/cart/do">
            <input name=act value=kill><input name=reason value=evil><input name=csrf value=guess></form>
            <script>fetch("{desk.base}/api/v1/kill", {{method: "POST", credentials: "include", body: "{{}}"}}).catch(() => 0)
            .then(() => f.submit())</script>"""
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Evil)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # Another port is another origin but the same site: the cookie goes along, and must not be enough.
    desk.browser.open(f"http://127.0.0.1:{server.server_port}/")
    desk.comes_to("/routes/cart/do")
    desk.browser.wait("the refusal", "return document.body !== null && document.body.textContent.includes('another site')")
    assert "another site" in desk.browser.run("return document.body.textContent")
    assert desk.estate.shop(100) > 0, "the kill must not be in force"
    desk.browser.complaints()
    status, _, body = desk.estate.ask(desk.estate.admin, "GET", "/", headers={"host": "evil.example.com"})
    assert status == 421, body
    server.shutdown()


def a_refused_file_is_shown_at_its_line(desk):
    desk.estate.routes.write_text(desk.estate.text + "  - {name: cart, match: 'nonsense', wieght: 10}\n")
    until = time.monotonic() + 20
    while True:
        desk.open("/config")
        text = desk.browser.text("main")
        if "Refused" in text:
            break
        assert time.monotonic() < until, text
        time.sleep(0.3)
    assert "wieght" in text and desk.browser.run("return document.querySelectorAll('.faults li').length") >= 2, text
    desk.quiet("/config")
    desk.estate.routes.write_text(desk.estate.text)
    desk.browser.click("form[action='/config/apply'] button")
    desk.browser.wait("the file in force again", "return document.querySelector('main').textContent.includes('In force')")


def an_accepted_cause_is_not_shown_as_a_difference(desk):
    desk.open("/divergences?route=cart")
    before = desk.browser.run("return document.querySelectorAll('.cause').length")
    desk.browser.run("document.querySelector('.cause details').open = true")
    desk.browser.type(".cause [name=reason]", "the tax is rounded as the law says now")
    desk.browser.click(".cause .confirm button")
    desk.browser.wait("the list without it", f"return document.querySelectorAll('.cause').length === {before - 1}")
    assert "the law says" in desk.browser.text("main")


CASES = [
    the_overview_is_open_and_its_numbers_come_by_themselves,
    what_needs_a_login_asks_for_it_and_comes_back,
    every_page_is_quiet_fits_and_can_be_read_by_all,
    the_keyboard_reaches_everything,
    the_filter_finds_with_and_without_script,
    each_control_moves_users,
    they_work_without_script_too,
    another_sites_page_changes_nothing,
    a_refused_file_is_shown_at_its_line,
    an_accepted_cause_is_not_shown_as_a_difference,
]


def main():
    if SHOTS:
        pathlib.Path(SHOTS).mkdir(parents=True, exist_ok=True)
    folder = tempfile.mkdtemp(prefix="room-")
    estate = Estate(folder)
    failed = 0
    try:
        with Browser() as browser:
            browser.size(1280)
            desk = Desk(estate, browser)
            for case in CASES:
                begun = time.monotonic()
                try:
                    case(desk)
                    print(f"browser: ok      {case.__name__.replace('_', ' ')} ({time.monotonic() - begun:.1f} s)", flush=True)
                except (AssertionError, RuntimeError) as error:
                    failed += 1
                    print(f"browser: FAILED  {case.__name__.replace('_', ' ')}\n  {error}", flush=True)
    finally:
        estate.end()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"browser: {len(CASES) - failed} of {len(CASES)} passed")
    sys.exit(1 if failed else 0)


main()
