import base64
import hashlib
import html
import json
import re

from tests.report.tissue import evidence, slide

from conceptseg.report.document import build
from conceptseg.report.page import render, write_page

NASTY = """</script><script>alert('x')</script> "quoted" & <b>bold</b> 🧬 \u202eשלום\u2028end @@DATA@@"""


def page(title=NASTY, **slide_facts):
    return render(build(evidence(slide(**slide_facts), title=title)).content)


def data_of(text):
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.S)[1])


def test_names_can_neither_end_the_script_nor_change_the_page():
    text = page(name=NASTY)
    assert text.count("<script") == text.count("</script>") == 2
    assert "alert('x')</script>" not in text
    assert "<b>bold" not in text
    data = data_of(text)
    assert data["title"] == NASTY
    assert data["slides"][0]["name"] == NASTY


def test_it_asks_for_nothing_but_itself():
    text = page(title="Study")
    without_names = text.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|@import|url\(|src=\"(?!data:)", without_names)


def test_the_policy_allows_its_own_script_and_style_and_no_other():
    text = page()
    policy = html.unescape(re.search(r'Content-Security-Policy" content="(.*?)"', text)[1])
    script = re.search(r"<script>(.*?)</script>", text, re.S)[1]
    style = re.search(r"<style>(.*?)</style>", text, re.S)[1]
    for directive, content in {"script-src": script, "style-src": style}.items():
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy


def test_half_a_character_in_a_file_name_does_not_stop_the_page(tmp_path):
    write_page(tmp_path / "page.html", build(evidence(slide(name="caf\udce9.svs"))).content)
    assert data_of((tmp_path / "page.html").read_text(encoding="utf-8"))["slides"][0]["name"] == "caf?.svs"
