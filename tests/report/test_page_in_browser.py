"""What a person sees and does in the page, in a real Chromium; `conceptseg labels` takes what comes out."""

import csv
import io
import threading

import numpy as np
import pytest
from shapely import box
from tests.report import browser
from tests.report.tissue import SIZE, evidence, piece, slide, stripes, tissue_file

from conceptseg.cli.main import main
from conceptseg.cli.report_labels import ServedLabels
from conceptseg.cli.report_sources import labels_of
from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.qupath.project.labels import Labels
from conceptseg.qupath.project.labels_file import update_labels
from conceptseg.report.document import build
from conceptseg.report.evidence import concepts_of
from conceptseg.report.page import render, write_page
from conceptseg.report.review import review_of
from conceptseg.report.serve import ReviewServer

pytestmark = pytest.mark.browser

NASTY = "\"quoted\" 'single' </script><script>document.title = 1</script> <img src=x onerror=alert(1)> & 🧬 שלום عربى"
LONG = "stroma " * 28 + "abc"  # 199 characters, as long as people get


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    downloads = tmp_path_factory.mktemp("downloads")
    driver = browser.start(downloads)
    yield driver, downloads
    driver.quit()


@pytest.fixture
def page(driver):
    page = browser.Page(*driver)
    page.errors()  # those of the test before
    yield page
    assert page.errors() == []
    page.js("window.onbeforeunload = null; try { localStorage.clear() } catch {}")


DICTIONARY = ConceptDictionary(
    identifier="demo-k4",
    concepts=np.array([[1, 0, 0], [0.9, 0.1, 0], [0, 1, 0], [0, 0, 1]], np.float32),
    encoder="default",
    pixel_size_um=0.5,
)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Two slides: four stripes of four concepts, and two of two."""
    file = tissue_file(tmp_path_factory.mktemp("study"))
    return evidence(
        slide(stripes(4), file=file, name="first.svs"),
        slide(stripes(2), file=file, name="second.svs"),
        dictionaries={"demo-k4": DICTIONARY},
        class_colours={"Tumor": (200, 0, 0), "Stroma": (150, 200, 150)},
    )


@pytest.fixture(scope="module")
def study(shown):
    return build(shown).content


@pytest.fixture
def opened(page, study, tmp_path):
    write_page(tmp_path / "page.html", study)
    return page.open((tmp_path / "page.html").as_uri())


def shown_rows(page):
    return [int(card.get_attribute("data-row")) for card in page.all(".card")]


def test_every_concept_has_a_card_with_its_numbers_and_pictures(opened):
    assert shown_rows(opened) == [0, 1, 2, 3]  # largest first
    assert "37.5 %" in opened.card(0).text
    assert "12.5 %" in opened.card(2).text
    for row in range(4):
        images = opened.all(f'.card[data-row="{row}"] .patch img')
        assert images
        assert all(opened.js("return arguments[0].naturalWidth", image) == 192 for image in images)
        paths = opened.all(f'.card[data-row="{row}"] .patch path.outline')
        assert all(opened.js("return arguments[0].getTotalLength()", path) > 10 for path in paths)


def test_heat_maps_are_strongest_where_the_concept_is(opened):
    selector = '.card[data-row="2"] .map canvas'
    opened.wait(f"document.querySelector('{selector}')?.getContext('2d').getImageData(9, 9, 1, 1).data[3]")
    colour = np.array(opened.js("return review[2].colour"))
    inside, outside = (np.array(opened.pixel(selector, x, 0.5)) for x in (0.62, 0.2))
    assert np.abs(inside - colour).sum() < 40
    assert np.abs(outside - colour).sum() > 100
    assert "25.0 %" in opened.card(2).text


def test_a_concept_is_switched_off_and_on(opened):
    def middle():
        opened.wait("!document.querySelector('canvas.slide').hidden")
        opened.js("return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return opened.pixel("canvas.slide", 0.62, 0.5)

    opened.js("document.getElementById('slides').scrollIntoView()")
    tinted = middle()
    opened.click('#viewer .legend input[data-row="2"]')
    plain = middle()
    assert np.abs(np.subtract(tinted, plain)).sum() > 30
    opened.click('#viewer .legend input[data-row="2"]')
    assert middle() == tinted


def test_the_slide_zooms_and_a_click_tells_what_is_there(opened):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    canvas = opened.find("canvas.slide")
    opened.js("arguments[0].scrollIntoView({block: 'center'})", canvas)
    before = float(canvas.get_attribute("data-zoom"))
    canvas.send_keys("+")
    opened.wait(f"Number(document.querySelector('canvas.slide').dataset.zoom) > {before * 1.4}")
    canvas.send_keys(Keys.ARROW_LEFT)
    canvas.send_keys("0")
    opened.wait(f"Math.abs(Number(document.querySelector('canvas.slide').dataset.zoom) - {before}) < 0.001")
    ActionChains(opened.driver).move_to_element_with_offset(canvas, 40, 0).click().perform()
    opened.wait("document.querySelector('.found').textContent.includes('concept 02')")
    assert "activation 0.70" in opened.find(".found").text


def test_a_patch_leads_to_its_place_on_the_slide_even_if_its_concept_is_hidden(opened):
    opened.js("viewer.only(0)")
    opened.click('.card[data-row="3"] .patch button')
    assert "concept 03" in opened.find(".found").text
    assert opened.find('#viewer .legend input[data-row="3"]').is_selected()


def test_naming_is_one_entry_per_concept_and_enter_goes_on(opened):
    from selenium.webdriver.common.keys import Keys

    opened.name_box(0).click()
    for name in ("Tumor", "Stroma", "Fat", "Glass*"):
        opened.driver.switch_to.active_element.send_keys(name, Keys.ENTER)
    assert opened.find("#named-text").text == "4 of 4 named"
    concepts = opened.labels()["dictionaries"]["demo-k4"]["concepts"]
    assert [concepts[str(k)]["name"] for k in range(4)] == ["Tumor", "Stroma", "Fat", "Glass"]
    assert [concepts[str(k)]["ignored"] for k in range(4)] == [False, False, False, True]
    assert opened.js("return review[0].colour") == [200, 0, 0]  # that of the class in QuPath


def test_merging_gives_one_name_and_one_colour_and_can_be_undone(opened):
    from selenium.webdriver.support.select import Select

    select = opened.card(1).find_element("css selector", "select")
    opened.js("arguments[0].focus()", select)
    assert [option.text.split()[0] for option in Select(select).options[:2]] == ["Merge", "00"]  # the most alike first
    Select(select).select_by_value("0")
    assert "One class with 00" in opened.card(1).text
    assert opened.js("return hex(review[0].colour) === hex(review[1].colour)")
    concepts = opened.labels()["dictionaries"]["demo-k4"]["concepts"]
    assert {concepts[k]["name"] for k in "01"} == {"Concept 00"}
    opened.click("#undo")
    assert "One class" not in opened.card(1).text


def test_verdicts_colours_and_ignoring_are_exported_and_read_again(opened, tmp_path, capsys):
    opened.button(0, "Accept")
    opened.button(1, "Reject")
    opened.button(3, "Ignore")
    opened.js("setColour(2, [1, 2, 3])")
    file, project = tmp_path / "labels.json", tmp_path / "project"
    opened.click("#save")
    file.write_text(opened.downloaded("conceptseg-labels.json"), encoding="utf-8")
    project.mkdir()
    (project / "project.qpproj").write_text('{"images": []}')
    assert main(["labels", str(project), "import", str(file)]) == 0
    labels = Labels.load(project / "conceptseg-labels.json").of("demo-k4")
    assert (labels[0].review, labels[1].review) == ("accepted", "rejected")
    assert (labels[2].colour, labels[3].class_name) == ((1, 2, 3), "Ignore*")


def test_names_that_qupath_would_change_are_refused_where_they_are_typed(opened):
    from selenium.webdriver.common.keys import Keys

    opened.name_box(0).send_keys("Tumor: invasive", Keys.ENTER)
    assert "sub-class" in opened.card(0).text
    assert opened.js("return review[0].name") is None


def test_search_filter_and_sort(opened):
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.select import Select

    opened.name_box(2).send_keys("Fat", Keys.TAB)
    opened.find("#search").send_keys("fat")
    assert shown_rows(opened) == [2]
    opened.find("#search").clear()
    opened.find("#search").send_keys(" ", Keys.BACK_SPACE)
    Select(opened.find("#filter")).select_by_value("unnamed")
    assert shown_rows(opened) == [0, 1, 3]
    Select(opened.find("#filter")).select_by_value("all")
    Select(opened.find("#sort")).select_by_value("purity")
    assert shown_rows(opened) == [3, 2, 1, 0]


def test_the_page_is_used_without_a_mouse(opened):
    from selenium.webdriver.common.keys import Keys

    body = opened.find("body")
    body.send_keys("?")
    assert opened.find("#help").is_displayed()
    opened.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    for key in ("j", "j", "a", "k", "r", "i"):
        opened.driver.switch_to.active_element.send_keys(key)
    assert opened.js("return review.map(own => own.review)") == ["rejected", "accepted", None, None]
    opened.driver.switch_to.active_element.send_keys("u")
    assert opened.js("return review[0].ignored") is False
    opened.driver.switch_to.active_element.send_keys("n")
    assert opened.driver.switch_to.active_element.get_attribute("aria-label") == "Name of concept 00"


def test_tables_are_downloaded_as_csv(opened):
    opened.click("#bars .table > button")
    rows = list(csv.DictReader(io.StringIO(opened.downloaded("composition.csv"))))
    assert [row["Concept"] for row in rows] == ["00", "01", "02", "03"]
    assert float(rows[2]["first.svs"]) == pytest.approx(0.25)
    assert float(rows[2]["second.svs"]) == 0


def test_bars_show_the_composition_of_every_slide(opened):
    assert len(opened.all("#bars .bars .row")) == 2
    widths = [float(r.get_attribute("width")) for r in opened.all("#bars .bars .row:first-child rect")]
    assert widths == pytest.approx([250] * 4)


def test_what_was_not_exported_survives_a_reload(opened):
    from selenium.webdriver.common.keys import Keys

    opened.name_box(0).send_keys("Tumor", Keys.TAB)
    opened.driver.refresh()
    opened.wait("document.documentElement.dataset.ready === 'yes'")
    assert opened.name_box(0).get_attribute("value") == "Tumor"


def test_any_name_is_text_and_nothing_else(page, tmp_path):
    from selenium.webdriver.common.keys import Keys

    shown = evidence(slide(stripes(2), name=NASTY, problem=NASTY), title=NASTY, class_colours={NASTY: None})
    write_page(tmp_path / "page.html", build(shown).content)
    page.open((tmp_path / "page.html").as_uri())
    assert page.find("#title").text == NASTY
    assert page.driver.title == NASTY
    assert page.find("#notes bdi").text == NASTY
    assert not page.all("img[src='x']")
    page.js("setName(0, arguments[0])", NASTY)
    page.name_box(1).send_keys(LONG, Keys.TAB)
    concepts = page.labels()["dictionaries"]["demo-k4"]["concepts"]
    assert (concepts["0"]["name"], concepts["1"]["name"]) == (NASTY, LONG)
    assert page.js("return document.documentElement.scrollWidth <= window.innerWidth")


def test_a_project_without_results_says_what_to_do(page, tmp_path):
    write_page(tmp_path / "page.html", build(evidence(slide())).content)
    page.open((tmp_path / "page.html").as_uri())
    assert "conceptseg annotate" in page.find("#notes").text
    write_page(tmp_path / "page.html", build(evidence()).content)
    page.open((tmp_path / "page.html").as_uri())
    assert "0 slides" in page.find("#facts").text


def test_256_concepts_are_one_page(page, tmp_path):
    side = SIZE / 16
    tiles = [
        piece(k, box(k % 16 * side, k // 16 * side, (k % 16 + 1) * side, (k // 16 + 1) * side)) for k in range(256)
    ]
    write_page(tmp_path / "page.html", build(evidence(slide(tiles, file=tissue_file(tmp_path)))).content)
    page.open((tmp_path / "page.html").as_uri())
    assert len(page.all(".card")) == 256
    assert page.find("#named-text").text == "0 of 256 named"


@pytest.fixture
def served(page, shown, study, tmp_path):
    """The open page, the labels file that it saves to, and what it sent."""
    file = tmp_path / "conceptseg-labels.json"
    labels = ServedLabels(file, review=lambda now: review_of(shown, concepts_of(shown.slides), labels_of(now)))
    sent = []

    def save(request):
        sent.append(request)
        return labels.save(request)

    def content(token):
        state = labels.state()
        server = {"token": token, "file": str(file), "version": state["version"]}
        return render({**study, "review": state["review"], "server": server})

    actions = {"labels": save, "apply": lambda _: {"message": "3 renamed", "failed": 0}}
    server = ReviewServer(page=content, actions=actions)
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield page.open(server.url), file, sent
    server.close()
    thread.join()


def saved(page, says):
    page.say_nothing()
    page.click("#save")
    page.wait(f"document.getElementById('status').textContent.includes({says!r})")


def named(file):
    return {concept: label.name for concept, label in Labels.load(file).of("demo-k4").items()}


def test_a_served_page_saves_where_it_was_told_and_says_so(served):
    page, file, sent = served
    page.js("setName(0, 'Tumor')")
    saved(page, "Saved in conceptseg-labels.json.")
    assert named(file) == {0: "Tumor"}
    assert page.js("return isSaved()")
    page.click("#apply")
    page.wait("document.getElementById('status').textContent.includes('3 renamed')")
    assert len(sent) == 1


def test_a_served_page_sends_what_changed_since_it_saved_and_nothing_else(served):
    page, _, sent = served
    page.js("setName(0, 'Tumor')")
    saved(page, "Saved")
    page.js("setVerdict(2, 'accepted')")
    saved(page, "Saved")
    page.js("undo()")
    saved(page, "Saved")
    assert [list(one["dictionaries"]["demo-k4"]["concepts"]) for one in sent] == [["0"], ["2"], ["2"]]
    assert len({one["based_on"] for one in sent}) == 3


def test_what_others_named_comes_into_the_page_and_undo_leaves_it(served):
    page, file, _ = served
    page.js("setName(0, 'Tumor')")
    update_labels(file, lambda labels: labels.named("demo-k4", [1], "Fat"))
    saved(page, "Concept 1 of demo-k4 is Fat now.")
    assert page.name_box(1).get_attribute("value") == "Fat"
    page.js("undo()")
    assert [page.name_box(row).get_attribute("value") for row in (0, 1)] == ["", "Fat"]
    saved(page, "Saved")
    assert named(file) == {0: None, 1: "Fat"}


def test_the_same_concept_is_not_overwritten_unless_a_person_says_so_again(served):
    page, file, _ = served
    page.js("setName(0, 'Tumor'); setName(2, 'Necrosis')")
    update_labels(file, lambda labels: labels.named("demo-k4", [0, 1], "Fat"))
    saved(page, "Concept 0 of demo-k4 is Fat now.")
    assert "error" in page.find("#status").get_attribute("class")
    assert page.errors(status=409) == []
    assert named(file) == {0: "Fat", 1: "Fat"}
    assert [page.name_box(row).get_attribute("value") for row in (0, 1, 2)] == ["Tumor", "Fat", "Necrosis"]
    assert not page.js("return isSaved()")
    saved(page, "Saved")
    assert named(file) == {0: "Tumor", 1: "Fat", 2: "Necrosis"}


def test_it_can_be_printed(opened):
    pdf = opened.driver.print_page()
    assert len(pdf) > 20_000
