#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""page.py PAGE GROUPED DIR: uses PAGE and GROUPED as a person does, with a mouse and keys, in headless Chromium.

Pictures of what was seen go to DIR. The pages are those that tests/page.rs makes.
"""
import json
import os
import pathlib
import sys

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

PAGE, GROUPED, DIR = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve(), pathlib.Path(sys.argv[3])
FIXTURE = pathlib.Path(__file__).parent.parent / "crates/model/tests/fixtures" / "d3_chord.json"


def open_browser():
    options = webdriver.ChromeOptions()
    arguments = ["--headless=new", "--disable-gpu", "--window-size=1400,1100", "--force-prefers-reduced-motion", "--host-resolver-rules=MAP * 0.0.0.0"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # Chromium has none for root
    for a in arguments:
        options.add_argument(a)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))


class Reader:
    def __init__(self, browser):
        self.b = browser

    def all(self, css):
        return self.b.find_elements("css selector", css)

    def one(self, css):
        return self.b.find_element("css selector", css)

    def texts(self, css):
        return [" ".join(e.text.split()) for e in self.all(css)]

    def point(self, element):
        ActionChains(self.b).move_to_element(element).perform()

    def path(self):
        return self.texts("#path li")

    def shot(self, name):
        self.b.save_screenshot(str(DIR / f"page-{name}.png"))

    def ribbon(self, *words):
        """The ribbon whose description has all these words."""
        found = [e for e in self.all("#chord .ribbon") if all(w in e.get_attribute("aria-label") for w in words)]
        assert len(found) == 1, (words, [e.get_attribute("aria-label") for e in found])
        return found[0]

    def middle_of(self, element):
        """A point of a shape, from the viewport's middle: (element, x, y) for a mouse."""
        return self.b.execute_script(
            """const e = arguments[0], box = e.getBoundingClientRect();
               for (let i = 0; i < 4000; i++) {
                 const x = box.left + box.width * ((i * 0.618034) % 1), y = box.top + box.height * (i / 4000);
                 if (document.elementFromPoint(x, y) === e) return [Math.round(x), Math.round(y)];
               }
               throw new Error("nothing of it is to be seen");""",
            element,
        )

    def move(self, element):
        x, y = self.middle_of(element)
        actions = ActionChains(self.b)
        actions.w3c_actions.pointer_action.move_to_location(x, y)
        actions.perform()

    def click(self, element):
        self.move(element)
        ActionChains(self.b).click().perform()


def equal(got, wanted, what):
    assert got == wanted, f"{what}: {got!r}, not {wanted!r}"


def main():
    browser = open_browser()
    try:
        read(Reader(browser))
        browser.set_window_size(1400, 1100)
        read_groups(Reader(browser))
        problems = [e for e in browser.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]
        equal(problems, [], "the browser's complaints")
    finally:
        browser.quit()


def read(r):
    r.b.get(PAGE.as_uri())
    equal(r.b.execute_script("return performance.getEntriesByType('resource').length"), 0, "things fetched")
    equal(r.b.title, "</script><img src=x onerror=document.title='owned'> on node-a", "title")
    equal(len(r.all("img")), 0, "a name became an element")
    assert "onerror" in r.one("#title").text, "and is shown as text"
    assert "99.0 % counted" in r.one("#books").text and "plain 1.0 %" in r.one("#books").text, r.one("#books").text

    # the layout is d3-chord's
    for case in json.loads(FIXTURE.read_text()):
        if case["order"] != "ascending" or case["padding"] > 6.283 / 4 / max(1, len(case["matrix"])):
            continue
        got = r.b.execute_script("return document.querySelector('main').layout(arguments[0], arguments[1])", case["matrix"], case["padding"])
        close = lambda a, b: abs(a - b) < 1e-9 * max(1, abs(b))
        for g, (_, start, end, value) in zip(got["groups"], case["groups"]):
            assert close(g["start"], start) and close(g["end"], end) and close(g["value"], value), (case["name"], g, start, end)
        feet = lambda f: (f["group"], f["start"], f["end"], f["value"])
        ribbons = sorted(((feet(x["source"]), feet(x["target"])) for x in got["ribbons"]), key=lambda p: sorted([p[0][0], p[1][0]]))
        wanted = sorted(((tuple(s), tuple(t)) for s, t in case["ribbons"]), key=lambda p: sorted([p[0][0], p[1][0]]))
        equal(len(ribbons), len(wanted), case["name"])
        for a, b in zip(ribbons, wanted):
            for x, y in zip(a, b):
                assert x[0] == y[0] and all(close(p, q) for p, q in zip(x[1:], y[1:])), (case["name"], x, y)

    # contents: hosts, ids with their shares
    equal(r.path(), ["hosts"], "path")
    equal(len(r.all("#chord .arc")), 3, "arcs")
    equal(len(r.all("#chord .ribbon")), 3, "ribbons")
    equal(r.texts("#tunnels li"), ["all 80.0 kb/s", "vxlan 10000 85.0 %", "vxlan 10001 15.0 %"], "ids")
    r.shot("hosts")

    # the mouse over a ribbon: both directions in words, everything else dims
    ribbon = r.ribbon("172.16.1.100", "172.16.1.101")
    r.move(ribbon)
    both = [
        "172.16.1.100 received from 172.16.1.101: 17.2 kb/s (81.1 % of 172.16.1.100's total, 21.5 % of all)",
        "172.16.1.101 received from 172.16.1.100: 51.6 kb/s (95.6 % of 172.16.1.101's total, 64.5 % of all)",
    ]
    equal(r.texts("#tip div"), both, "tooltip")
    equal(r.texts("#details p"), both, "details")
    opacity = lambda e: float(r.b.execute_script("return getComputedStyle(arguments[0]).opacity", e))
    equal(opacity(ribbon), 1.0, "the ribbon")
    assert all(opacity(e) < 0.5 for e in r.all("#chord .ribbon") if e != ribbon), "the others dim"
    equal([opacity(e) == 1.0 for e in r.all("#ends li")], [True, True, False], "the list dims too")
    r.shot("ribbon")
    r.point(r.one("h1"))
    assert not r.one("#tip").is_displayed()

    # units
    r.one("#units button:nth-child(2)").click()
    equal(r.texts("#tunnels li")[0], "all 100 kB", "bytes")
    r.one("#units button:nth-child(3)").click()
    equal(r.texts("#tunnels li")[0], "all 1.0 k", "packets")
    r.one("#units button:nth-child(2)").click()

    # an id
    r.all("#tunnels input")[2].click()
    equal(len(r.all("#chord .ribbon")), 2, "ribbons of an id")
    equal(set(r.texts("#rows td:nth-child(2)")), {"vxlan 10001"}, "rows of an id")
    equal(r.texts("#tunnels li"), ["all 100 kB", "vxlan 10000 85.0 %", "vxlan 10001 15.0 %"], "shares are of everything")

    # clear, then into a host by its arc, into an inner pair, to its rows, and back
    r.one("#clear").click()
    equal(r.all("#tunnels input")[0].is_selected(), True, "all again")
    arc = [e for e in r.all("#chord .arc") if e.get_attribute("aria-label").startswith("172.16.1.102")][0]
    r.click(arc)
    equal(r.path(), ["hosts", "172.16.1.102"], "path")
    equal(sorted(r.texts("#ends .name")), ["192.168.0.2", "192.168.0.3", "192.168.1.1", "192.168.1.3"], "inner addresses")
    r.click(r.ribbon("192.168.1.1", "192.168.1.3"))
    equal(len(r.path()), 3, "path")
    equal(len(r.all("#rows tbody tr")), 1, "the pair's rows")
    assert "192.168.1.1 ⇄ 192.168.1.3" in r.texts("#rows tbody tr")[0]
    r.shot("rows")
    ActionChains(r.b).send_keys(Keys.ESCAPE).perform()
    ActionChains(r.b).send_keys(Keys.ESCAPE).perform()
    equal(r.path(), ["hosts"], "path")

    # several hosts: marked in the list and on the circle, entered together
    r.one('#ends input[aria-label="mark 172.16.1.101"]').click()
    ActionChains(r.b).key_down(Keys.CONTROL).click(r.all("#chord text")[-1]).key_up(Keys.CONTROL).perform()
    equal(r.one("#enter").text, "enter 2 marked", "marks")
    r.shot("marked")
    r.one("#enter").click()
    equal(r.path()[1][-2:], "+1", "several")
    r.all("#path button")[0].click()
    equal(r.one("#enter").text, "enter 2 marked", "marks come back")
    r.one("#clear").click()
    assert not r.one("#enter").is_displayed()

    # keys alone
    r.b.execute_script("arguments[0].focus()", r.ribbon("172.16.1.101", "172.16.1.102"))
    equal(len(r.texts("#details p")), 2, "focus selects")
    ActionChains(r.b).send_keys(Keys.ENTER).perform()
    equal(r.path(), ["hosts", "172.16.1.101 ⇄ 172.16.1.102"], "path")
    ActionChains(r.b).send_keys("c").perform()
    equal(r.path(), ["hosts"], "path")

    # light, and narrow
    r.one("#theme").click()
    equal(r.b.execute_script("return getComputedStyle(document.body).backgroundColor"), "rgb(255, 255, 255)", "paper")
    r.shot("light")
    r.b.set_window_size(500, 1000)
    width = r.b.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert width[0] <= width[1], f"a narrow window scrolls sideways: {width}"
    r.shot("narrow")


def read_groups(r):
    """The same rows with hosts in groups: the coarsest level with two groups, their hosts, and inner addresses."""
    r.b.get(GROUPED.as_uri())
    equal(r.path(), ["groups"], "path")
    a, b = "eu/<b>zone-a", "eu/zone-b"
    equal(sorted(r.texts("#ends .name")), [a, b], "groups")
    equal(len(r.all("#chord b")) + len(r.all("#ends b")), 0, "a name became an element")
    total = r.texts("#tunnels li")[0]
    r.shot("groups")
    groups = set(r.texts("#rows td:nth-child(5)"))
    equal(groups, {a, f"{a} ⇄ eu/zone-b/rack-1"}, "groups of rows")

    # into one: its hosts, with those elsewhere in their groups
    r.click([e for e in r.all("#chord .arc") if e.get_attribute("aria-label").startswith(a)][0])
    equal(r.path(), ["groups", a], "path")
    equal(sorted(r.texts("#ends .name")), ["172.16.1.100", "172.16.1.101", b], "its hosts")
    equal(r.texts("#tunnels li")[0], total, "nothing is lost")
    r.shot("group")
    r.click(r.ribbon("172.16.1.100", b))
    equal(r.path(), ["groups", a, f"172.16.1.100 ⇄ {b}"], "path")
    equal(sorted(r.texts("#ends .name")), ["192.168.1.1", "192.168.1.3"], "inner addresses")
    r.click(r.ribbon("192.168.1.1", "192.168.1.3"))
    equal(len(r.all("#rows tbody tr")), 1, "rows")
    r.one("#clear").click()

    # within one
    r.click(r.ribbon(f"{a} received from {a}"))
    equal(r.path(), ["groups", a], "path")
    equal(sorted(r.texts("#ends .name")), ["172.16.1.100", "172.16.1.101"], "hosts that talk within it")


main()
