"""``conceptseg report`` as a user runs it."""

import json
import re
import shutil
import threading

import pytest
from PIL import Image
from tests.qupath.project import fake
from tests.report.tissue import tissue_file

from conceptseg.cli.main import main
from conceptseg.qupath.geojson import write_geojson
from conceptseg.qupath.project.labels import Labels


def run(*arguments, capsys):
    code = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def page_data(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.S)[1])


@pytest.fixture
def results(tmp_path, make_result):
    """A picture, and its results beside it."""
    tissue_file(tmp_path)
    write_geojson(tmp_path / "tissue.geojson", make_result())
    return tmp_path / "tissue.geojson"


@pytest.mark.parametrize("source", ["tissue.geojson", "tissue.png"])
def test_results_and_image_are_found_by_each_other(results, source, capsys):
    page = results.with_name("page.html")
    code, out, err = run("report", results.with_name(source), "-o", page, "--json", capsys=capsys)
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert (facts["slides"], facts["concepts"]) == (1, 2)
    data = page_data(page)
    assert data["title"] == "tissue.png"
    assert data["slides"][0]["picture"]
    assert [concept["share"] for concept in data["concepts"]] == pytest.approx([0.6, 0.4])


def test_an_image_elsewhere_is_named(results, tmp_path, capsys):
    (tmp_path / "elsewhere").mkdir()
    image = shutil.move(tmp_path / "tissue.png", tmp_path / "elsewhere" / "other.png")
    page = tmp_path / "page.html"
    code, _, err = run("report", results, "-o", page, capsys=capsys)
    assert code == 0
    assert "--image" in err
    assert page_data(page)["slides"][0]["picture"] is None
    code, _, err = run("report", results, "--image", image, "-o", page, capsys=capsys)
    assert (code, err) == (0, "")
    assert page_data(page)["slides"][0]["picture"]


def test_the_summary_beside_the_results_names_image_and_run(results, capsys):
    results.with_name("tissue.png").rename(results.with_name("slide.png"))
    results.with_suffix(".json").write_text(json.dumps({"image": "slide.png", "encoder": "default", "concepts": []}))
    code, _, err = run("report", results, "-o", results.with_name("page.html"), capsys=capsys)
    assert (code, err) == (0, "")
    (slide,) = page_data(results.with_name("page.html"))["slides"]
    assert slide["name"] == "slide.png"
    assert slide["provenance"]["encoder"] == "default"


def test_corrections_made_in_qupath_are_in_its_exports(results, capsys):
    document = json.loads(results.read_text())
    document["features"][0]["properties"]["metadata"] |= {
        "conceptseg.reassigned": "1",
        "conceptseg.review": "accepted",
    }
    results.write_text(json.dumps(document))
    run("report", results, "-o", results.with_name("page.html"), capsys=capsys)
    (concept,) = page_data(results.with_name("page.html"))["concepts"]
    assert concept["members"] == [1]
    assert concept["corrections"] == {"gained": 1, "lost": 0, "accepted": 1, "rejected": 0}


def test_an_image_that_the_polygons_do_not_lie_in_is_not_shown_under_them(results, capsys):
    image = results.with_name("small.png")
    Image.new("RGB", (90, 80)).save(image)
    page = results.with_name("page.html")
    code, _, err = run("report", results, "--image", image, "-o", page, capsys=capsys)
    assert code == 0
    assert "not the image of these results" in err
    assert "x 0 to 100, y 0 to 80 px, and small.png has 90 × 80 px. Name the right one with --image." in err
    (slide,) = page_data(page)["slides"]
    assert slide["picture"] is None
    assert "not the image" in slide["note"]


def test_the_summary_beside_the_results_tells_another_image(results, capsys):
    results.with_suffix(".json").write_text(json.dumps({"image": "slide.png", "concepts": []}))
    _, _, err = run("report", results, "-o", results.with_name("page.html"), capsys=capsys)
    assert "says that slide.png was segmented, and tissue.png is shown" in err


def test_a_file_without_results_is_said(results, capsys):
    results.write_text(json.dumps({"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": None}]}))
    page = results.with_name("page.html")
    code, _, err = run("report", results, "-o", page, capsys=capsys)
    assert code == 0
    assert f"{results} holds no results of ConceptSeg" in err
    assert page_data(page)["concepts"] == []


def test_results_that_enclose_no_area_are_left_out_and_named(results, capsys):
    document = json.loads(results.read_text())
    document["features"][0]["geometry"] = {"type": "LineString", "coordinates": [[1, 1], [5, 5]]}
    results.write_text(json.dumps(document))
    page = results.with_name("page.html")
    code, _, err = run("report", results, "-o", page, capsys=capsys)
    assert code == 0
    assert "Left out: feature 1: LineString." in err
    assert len(page_data(page)["concepts"]) == 1


@pytest.mark.shared
def test_results_of_another_image_in_the_shared_cases(shared_data, tmp_path, capsys):
    cases = shared_data.parent / "cases"
    image = cases / "series" / "macro_first.ome.tif"
    arguments = [cases / "report" / "region.geojson", "--image", image, "-o", tmp_path / "page.html"]
    code, _, err = run("report", *arguments, capsys=capsys)
    assert code == 0
    assert "not the image of these results" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.geojson", "-o", "p.html"], "gone.geojson"),
        (["tissue.geojson", "-o", "p.pdf"], ".html"),
        (["tissue.geojson", "-o", "nowhere/p.html"], "does not exist"),
        (["tissue.geojson", "--serve"], "one QuPath project"),
        (["tissue.geojson", "--image", "a.png", "--image", "b.png", "-o", "p.html"], "one --image for each"),
        (["alone.png", "-o", "p.html"], "conceptseg segment"),
        (["tissue.geojson", "-o", "p.html", "--port", "0"], "--port has no effect without --serve"),
        (["tissue.geojson", "-o", "p.html", "--images", "*"], "--images has no effect without a QuPath project"),
    ],
)
def test_what_cannot_be_done_is_said_before_it_is_tried(results, monkeypatch, arguments, message, capsys):
    monkeypatch.chdir(results.parent)
    Image.new("RGB", (9, 9)).save("alone.png")
    code, _, err = run("report", *arguments, capsys=capsys)
    assert code == 1
    assert message in err
    assert not (results.parent / "p.html").exists()


def test_a_project_is_read_with_its_names_and_left_as_it_is(project, tmp_path, capsys):
    run("labels", project, "set", 1, "Stroma", "--dictionary", "default-k8", capsys=capsys)
    before = fake.files_of(project)
    page = tmp_path / "page.html"
    code, _, err = run("report", project.parent, "-o", page, capsys=capsys)
    assert (code, err) == (0, "")
    data = page_data(page)
    assert data["title"] == "Study"
    assert [row["name"] for row in data["review"]] == [None, "Stroma"]
    assert data["dictionaries"][0]["identifier"] == "default-k8"
    assert data["concepts"][0]["alike"][0]["row"] == 1
    assert fake.files_of(project) == before


def test_a_project_without_results_has_a_page_too(project, tmp_path, capsys):
    (project.parent / "data" / "1" / "data.qpdata").unlink()
    code, _, err = run("report", project, "-o", tmp_path / "page.html", capsys=capsys)
    assert (code, err) == (0, "")
    assert page_data(tmp_path / "page.html")["concepts"] == []


def test_a_slide_that_was_moved_leaves_a_note_and_its_numbers(project, tmp_path, capsys):
    (project.parent / "slide-1.png").unlink()
    code, _, err = run("report", project, "-o", tmp_path / "page.html", capsys=capsys)
    assert code == 0
    assert "slide-1.png" in err
    data = page_data(tmp_path / "page.html")
    assert "slide-1.png" in data["slides"][0]["note"]
    assert len(data["concepts"]) == 2


@pytest.fixture
def served(project, monkeypatch, capsys):
    """The page's server, running in a thread while the command waits for it."""
    import queue

    from conceptseg.report.serve import ReviewServer

    servers = queue.Queue()
    serve = ReviewServer.serve

    def announced(server):
        servers.put(server)
        serve(server)

    monkeypatch.setattr(ReviewServer, "serve", announced)
    thread = threading.Thread(target=main, args=(["report", str(project), "--serve"],))
    thread.start()
    server = servers.get(timeout=60)
    yield server
    server.close()
    thread.join()


def post(server, what, content):
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"}
    request = Request(server.url + what, json.dumps(content).encode(), headers)
    try:
        with urlopen(request, timeout=60) as response:
            return response.status, json.loads(response.read())
    except HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def names(**concepts):
    """What a page sends that gave names: ``c0="Tumor"``."""
    said = {number.removeprefix("c"): {"name": name} for number, name in concepts.items()}
    return {"version": 1, "dictionaries": {"default-k8": {"concepts": said}}}


def page_of(server):
    from urllib.request import urlopen

    with urlopen(server.url, timeout=60) as response:
        return re.search(r'<script id="data" type="application/json">(.*?)</script>', response.read().decode(), re.S)[1]


def version_of(server):
    return json.loads(page_of(server))["server"]["version"]


def test_a_served_page_writes_the_labels_and_applies_them(served, project):
    file = project.parent / "conceptseg-labels.json"
    file.write_text(json.dumps({"version": 1, "dictionaries": {"other": {"concepts": {"5": {"name": "Fat"}}}}}))
    status, answer = post(served, "labels", names(c0="Tumor", c1="Tumor") | {"based_on": version_of(served)})
    assert status == 200
    assert [row["name"] for row in answer["review"]] == ["Tumor", "Tumor"]
    assert set(json.loads(file.read_text())["dictionaries"]) == {"other", "default-k8"}
    version = answer["version"]
    status, answer = post(served, "apply", {})
    assert (status, answer["failed"]) == (200, 0)
    assert answer["message"].endswith("Images changed: 1 of 1.")
    assert [o["class"] for o in fake.objects_of(project, "1")] == ["Tumor"]  # both, joined
    assert post(served, "labels", names(c1="Stroma") | {"based_on": version})[0] == 200
    message = post(served, "apply", {})[1]["message"]
    assert "Images changed: 0 of 1. Left as they are" in message
    assert "different names now: 1 annotations" in message


def test_damaged_labels_are_refused_and_nothing_is_written(served, project):
    file = project.parent / "conceptseg-labels.json"
    for content in ([], {"version": 2}, {"version": 1}, {"version": 1, "dictionaries": {"d": {"concepts": {"0": 3}}}}):
        assert post(served, "labels", content)[0] == 409
    status, answer = post(served, "labels", names(c0="a:b") | {"based_on": version_of(served)})
    assert status == 409
    assert "sub-class" in answer["message"]
    assert not file.exists()


def test_what_others_changed_stays_and_the_same_concept_is_refused_once(served, project, capsys):
    file = project.parent / "conceptseg-labels.json"
    shown = version_of(served)
    run("labels", project, "set", 1, "Stroma", "--dictionary", "default-k8", capsys=capsys)
    status, answer = post(served, "labels", names(c0="Tumor") | {"based_on": shown})
    assert status == 200
    assert "Concept 1 of default-k8 is Stroma now." in answer["message"]
    assert [row["name"] for row in answer["review"]] == ["Tumor", "Stroma"]
    before = file.read_bytes()
    status, answer = post(served, "labels", names(c1="Fat") | {"based_on": shown})
    assert status == 409
    assert "Nothing was saved" in answer["message"]
    assert "Concept 1 of default-k8 is Stroma now." in answer["message"]
    assert [row["name"] for row in answer["review"]] == ["Tumor", "Stroma"]
    assert file.read_bytes() == before
    assert post(served, "labels", names(c1="Fat") | {"based_on": answer["version"]})[0] == 200
    assert {c: label.name for c, label in Labels.load(file).of("default-k8").items()} == {0: "Tumor", 1: "Fat"}


@pytest.mark.parametrize("based_on", [{}, {"based_on": "no version"}, {"based_on": [1]}])
def test_changes_of_an_unknown_page_are_not_saved(served, project, based_on):
    status, answer = post(served, "labels", names(c0="Tumor") | based_on)
    assert status == 409
    assert "too old" in answer["message"]
    assert not (project.parent / "conceptseg-labels.json").exists()
    assert post(served, "labels", names(c0="Tumor") | {"based_on": answer["version"]})[0] == 200


def test_of_150_saves_beside_another_writer_none_is_lost(served, project, tmp_path):
    """The page and `labels set` name concepts in turn, as fast as they can; every name that was taken is there."""
    file = project.parent / "conceptseg-labels.json"
    stop = threading.Event()
    others = []

    def write():
        while not stop.is_set():
            number = 1000 + len(others)
            # The command without the start of a process: it is that many times as fast, and so harder to beat.
            assert main(["labels", str(project), "set", str(number), f"Other {number}", "--dictionary", "mine"]) == 0
            others.append(number)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        version, statuses = version_of(served), []
        for number in range(150):
            said = names(**{f"c{number}": f"Page {number}"}) | {"based_on": version}
            status, answer = post(served, "labels", said)
            statuses.append(status)
            version = answer["version"]
    finally:
        stop.set()
        writer.join()
    assert statuses == [200] * 150
    labels = Labels.load(file)
    assert others
    assert {c: label.name for c, label in labels.of("mine").items()} == {n: f"Other {n}" for n in others}
    assert {c: label.name for c, label in labels.of("default-k8").items()} == {n: f"Page {n}" for n in range(150)}


def test_a_damaged_labels_file_is_said_in_place_of_the_page(served, project):
    from urllib.error import HTTPError
    from urllib.request import urlopen

    file = project.parent / "conceptseg-labels.json"
    file.write_text("{")
    with pytest.raises(HTTPError) as refused, urlopen(served.url, timeout=60):
        pass
    with refused.value as answer:
        assert answer.code == 409
        assert re.search(r"conceptseg-labels\.json .*Then reload this page", answer.read().decode(), re.S)
    file.unlink()
    assert version_of(served)


def test_results_are_not_touched_while_a_qupath_may_have_them_open(served, project, monkeypatch):
    monkeypatch.setattr("conceptseg.cli.report.require_closed", lambda *_, **__: ["A QuPath is running (process 1)."])
    before = fake.files_of(project)
    status, answer = post(served, "apply", {})
    assert status == 409
    assert "labels" in answer["message"]
    assert fake.files_of(project) == before
