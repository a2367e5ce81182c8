"""The scripts are valid Groovy for every QuPath, and look as users expect them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "qupath_scripts"
SCRIPTS = sorted(FOLDER.glob("*.groovy"))
NAMES = {
    "Check_server",
    "Learn_concepts_from_selection",
    "Name_and_merge_concepts",
    "Remove_ConceptSeg_results",
    "Review_concepts",
    "Segment_selected_annotations",
    "Segment_whole_image",
    "Select_by_concept",
    "Show_concept_summary",
}
# What QuPath 0.5.1, 0.6.0 and 0.7 bring.
GROOVY = ["4.0.15", "4.0.26", "5.0.2"]

# Parses and converts, but resolves no class: QuPath's are not on the class path.
COMPILER = """
import org.codehaus.groovy.control.*;
public class Check {
    public static void main(String[] files) throws Exception {
        boolean failed = false;
        for (String file : files) {
            CompilationUnit unit = new CompilationUnit();
            unit.addSource(new java.io.File(file));
            try {
                unit.compile(Phases.CONVERSION);
            } catch (MultipleCompilationErrorsException error) {
                System.out.println(error.getMessage());
                failed = true;
            }
        }
        System.out.println("checked " + files.length + " with Groovy " + groovy.lang.GroovySystem.getVersion());
        System.exit(failed ? 1 : 0);
    }
}
"""


@pytest.fixture(scope="module", params=GROOVY)
def check(request, tmp_path_factory):
    """Runs Groovy's parser over files."""
    missing = [program for program in ("mvn", "java") if shutil.which(program) is None]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)} to get and run Groovy")
    folder = tmp_path_factory.mktemp("groovy")
    artifact = f"org.apache.groovy:groovy:{request.param}"
    copy = ["mvn", "-B", "-q", "dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={folder}"]
    done = subprocess.run(copy, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        pytest.skip(f"Maven cannot get {artifact}: {(done.stdout + done.stderr).strip()[:200]}")
    (folder / "Check.java").write_text(COMPILER, encoding="utf-8")
    jar = folder / f"groovy-{request.param}.jar"

    def check(*files: Path) -> subprocess.CompletedProcess[str]:
        command = ["java", "-Dfile.encoding=UTF-8", "-cp", str(jar), str(folder / "Check.java"), *map(str, files)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    check.version = request.param
    return check


def test_the_scripts_parse(check):
    done = check(*SCRIPTS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"checked {len(SCRIPTS)} with Groovy {check.version}" in done.stdout


def test_the_check_sees_an_error(check, tmp_path):
    broken = tmp_path / "Broken.groovy"
    broken.write_text("def x = [1, 2\nprintln x(\n", encoding="utf-8")
    assert check(broken).returncode == 1


def test_all_scripts_are_there():
    assert {script.stem for script in SCRIPTS} == NAMES


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_says_what_it_does_and_begins_with_its_settings(script):
    text = script.read_text(encoding="utf-8")
    assert text.startswith("/*\n * ConceptSeg: ")
    marks = [" * What it does", " * How to use", "// ---------- Settings ----------", "// ---------- Script ----------"]
    assert sorted(marks, key=text.index) == marks
    assert max(map(len, text.splitlines())) <= 120
    # The last thing that runs says what was done: headless, with -p and no -i, QuPath exits with 0 whatever happens.
    body = text.split("// ---------- Helpers ----------")[0]
    last = [line for line in body.rstrip().splitlines() if re.match(r"\S", line)][-1]
    assert last.startswith(("println", "say("))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_dialog_is_only_shown_in_the_window_that_shows_the_image(script):
    text = script.read_text(encoding="utf-8")
    if "Dialogs.show" in text or "new Stage" in text:
        assert "getCurrentViewer()?.getImageData() ==" in text or "viewer?.getImageData() ==" in text
