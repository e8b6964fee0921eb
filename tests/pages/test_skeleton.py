import json
import re

from hypothesis import given
from hypothesis import strategies as st
from markup import Elements

from svtas_jax.pages.skeleton import embed_json, escape, page, table

HOSTILE = '</script><script>alert("&\'")</script><!--'


def test_a_page_is_whole_and_loads_nothing():
    text = page("Tea", "<section><p>one</p></section>", head="<style>p{}</style>")
    found = Elements(text)
    assert text.startswith("<!doctype html>")
    assert found.text_of("title") == found.text_of("h1") == "Tea"
    assert "prefers-color-scheme: dark" in found.text_of("style")
    assert not found.addresses and not re.search(r"@import|url\(", text)
    assert "default-src 'none'" in text


@given(st.text())
def test_a_title_is_text(title):
    text = page(title, "")
    assert text.count("<title>") == text.count("<h1>") == 1
    assert f"<h1>{escape(title)}</h1>" in text


def test_hostile_names_stay_text():
    assert Elements(page(HOSTILE, "")).text_of("h1") == HOSTILE
    cells = Elements(table([HOSTILE, "n"], [[HOSTILE, "1"]]))
    assert "script" not in cells.tags
    assert cells.text_of("th") == f"{HOSTILE}n" and cells.text_of("td") == f"{HOSTILE}1"


def test_a_table_aligns_numbers_and_takes_html():
    text = table(["a", "b", "n"], [["x", "<b>y</b>", "1"]], num_texts=2, as_html=True)
    assert "<td><b>y</b></td>" in text and '<td class="number">1</td>' in text
    Elements(text)


@given(st.lists(st.text() | st.integers()))
def test_embedded_data_comes_back(content):
    text = embed_json("data", [content, HOSTILE])
    assert Elements(text).tags == ["script"]
    inside = text[text.index(">") + 1 : text.rindex("</script>")]
    assert json.loads(inside) == [content, HOSTILE]
    assert "<" not in inside
