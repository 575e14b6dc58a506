from __future__ import annotations

import re

import pytest

FILES = {
    "/": "text/html; charset=utf-8",
    "/console/console.js": "text/javascript; charset=utf-8",
    "/console/console.css": "text/css; charset=utf-8",
}


@pytest.mark.parametrize(("path", "media_type"), FILES.items())
def test_the_page_and_its_files_need_no_key_and_run_nothing_foreign(plane, path, media_type):
    response = plane.anyone.get(path)
    assert response.status_code == 200
    assert response.headers["content-type"] == media_type
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["referrer-policy"] == "no-referrer"
    # The SVG namespace is a name, not an address; nothing is loaded from anywhere else.
    text = response.text.replace("http://www.w3.org/2000/svg", "")
    assert "http://" not in text
    assert "https://" not in text
    assert not re.search(r"\son\w+=|<style|\sstyle=", text)


def test_everything_the_page_loads_is_there(plane):
    page = plane.anyone.get("/").text
    loaded = re.findall(r'(?:src|href)="(/[^"]+)"', page)
    assert sorted(loaded) == ["/console/console.css", "/console/console.js"]
    for path in loaded:
        assert plane.anyone.get(path).status_code == 200


def test_the_script_finds_every_element_it_asks_for(plane):
    page = plane.anyone.get("/").text
    script = plane.anyone.get("/console/console.js").text
    asked = set(re.findall(r'\bat\("([^"]+)"\)', script))
    assert len(asked) > 15
    assert asked <= set(re.findall(r'\bid="([^"]+)"', page))


def test_the_script_never_writes_markup(plane):
    script = plane.anyone.get("/console/console.js").text
    assert "innerHTML" not in script
    assert "eval(" not in script
