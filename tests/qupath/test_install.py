"""Installing the extension into QuPath's user folder."""

import json
import os
import plistlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from conceptseg.cli.qupath import qupath as qupath_command
from conceptseg.domain.errors import InvalidRequestError, OutputError
from conceptseg.qupath import install as module
from conceptseg.qupath.install import (
    UserFolder,
    choose_user_folders,
    find_extension,
    find_user_folders,
    install,
    server_command,
    server_command_problem,
    status,
    uninstall,
    write_server_command,
)
from conceptseg.qupath.java_preferences import (
    decode_registry,
    encode_registry,
    macos_values,
    node_name,
    read_user_paths,
    set_user_path,
)
from conceptseg.qupath.locate import find_qupath_installations

BUILD_LEFTOVERS = ("shaded", "sources", "javadoc", "tests")
SERVICE = "META-INF/services/qupath.lib.gui.extensions.QuPathExtension"
linux_only = pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="Java keeps preferences in files on Linux")


def make_jar(path: Path, scripts: dict[str, str], *, service: str = "io.github.conceptseg.qupath.Extension") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(SERVICE, service + "\n")
        archive.writestr("META-INF/other.groovy", "not a script of ours")
        for name, text in scripts.items():
            archive.writestr(f"scripts/{name}", text)
    return path


def make_extension(folder: Path, scripts: dict[str, str], *, version: str = "1.0"):
    make_jar(folder / f"conceptseg-qupath-{version}.jar", scripts)
    return find_extension([folder])


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.fixture
def user(tmp_path):
    return UserFolder(path=tmp_path / "QuPath/v0.6", versions=("0.6",))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user without any QuPath, whose Java preferences lie in ``home``."""
    path = tmp_path / "home folder"
    path.mkdir()
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", f'-Xmx1g -Duser.home="{path}" -Djava.util.prefs.userRoot="{path}"')
    monkeypatch.setenv("CONCEPTSEG_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setattr(module, "find_qupath_installations", list)
    return path


def test_jar_and_scripts_arrive_where_qupath_looks(tmp_path, user):
    extension = make_extension(tmp_path / "jars", {"A.groovy": "a", "B.groovy": "b"})
    report = install(user, extension)
    assert (user.path / "extensions/conceptseg-qupath-1.0.jar").read_bytes() == extension.jar.read_bytes()
    assert (user.path / "scripts/ConceptSeg/A.groovy").read_text() == "a"
    assert sorted(path.name for path in (user.path / "scripts/ConceptSeg").iterdir()) == ["A.groovy", "B.groovy"]
    assert len(report.done) == 3
    assert not report.kept
    assert not report.advice


def test_a_second_install_touches_nothing(tmp_path, user):
    extension = make_extension(tmp_path / "jars", {"A.groovy": "a"})
    install(user, extension)
    before = snapshot(user.path)
    assert install(user, extension).done == []
    assert snapshot(user.path) == before


def test_an_update_replaces_the_jar_and_the_scripts(tmp_path, user):
    install(user, make_extension(tmp_path / "1", {"A.groovy": "a", "Gone.groovy": "g"}))
    install(user, make_extension(tmp_path / "2", {"A.groovy": "a2", "New.groovy": "n"}, version="1.1"))
    assert [path.name for path in (user.path / "extensions").iterdir()] == ["conceptseg-qupath-1.1.jar"]
    scripts = {path.name: path.read_text() for path in (user.path / "scripts/ConceptSeg").iterdir()}
    assert scripts == {"A.groovy": "a2", "New.groovy": "n"}


def test_an_edited_script_is_kept_and_its_new_version_lies_beside_it(tmp_path, user):
    install(user, make_extension(tmp_path / "1", {"A.groovy": "a"}))
    script, beside = user.path / "scripts/ConceptSeg/A.groovy", user.path / "scripts/ConceptSeg/A.new.groovy"
    script.write_text("mine")

    report = install(user, make_extension(tmp_path / "1", {"A.groovy": "a"}))
    assert "kept" in report.kept[0]
    assert not beside.exists()  # nothing newer to offer

    newer = make_extension(tmp_path / "2", {"A.groovy": "a2"}, version="1.1")
    report = install(user, newer)
    assert (script.read_text(), beside.read_text()) == ("mine", "a2")
    assert "A.new.groovy" in report.kept[0]
    before = snapshot(user.path)
    assert install(user, newer).done == []
    assert snapshot(user.path) == before

    # The user takes the new version over: nothing is left beside it, and later updates replace it again.
    script.write_text("a2")
    install(user, newer)
    assert not beside.exists()
    install(user, make_extension(tmp_path / "3", {"A.groovy": "a3"}, version="1.2"))
    assert script.read_text() == "a3"


def test_a_script_of_that_name_that_was_there_before_is_kept(tmp_path, user):
    script = user.path / "scripts/ConceptSeg/A.groovy"
    script.parent.mkdir(parents=True)
    script.write_text("mine")
    extension = make_extension(tmp_path / "jars", {"A.groovy": "a"})
    install(user, extension)
    assert script.read_text() == "mine"
    assert script.with_name("A.new.groovy").read_text() == "a"
    uninstall(user)
    assert [path.name for path in script.parent.iterdir()] == ["A.groovy"]


def test_a_deleted_script_comes_back(tmp_path, user):
    extension = make_extension(tmp_path / "jars", {"A.groovy": "a"})
    install(user, extension)
    (user.path / "scripts/ConceptSeg/A.groovy").unlink()
    assert len(install(user, extension).done) == 1
    assert (user.path / "scripts/ConceptSeg/A.groovy").is_file()


def test_uninstall_removes_only_what_is_ours(tmp_path, user):
    others = [
        make_jar(user.path / "extensions/other.jar", {}, service="org.example.Extension"),
        make_jar(user.path / "extensions/conceptseg-qupath-9.jar", {}, service="org.example.Lookalike"),
        user.path / "scripts/Mine.groovy",
        user.path / "scripts/ConceptSeg/Mine.groovy",
        user.path / "scripts/ConceptSeg/A.groovy",
    ]
    install(user, make_extension(tmp_path / "jars", {"A.groovy": "a", "B.groovy": "b"}))
    for path in others[2:]:
        path.write_text("mine")
    report = uninstall(user)
    assert sorted(path for path in user.path.rglob("*") if path.is_file()) == sorted(others)
    assert len(report.kept) == 1


def test_uninstall_leaves_no_empty_folder_and_can_be_repeated(tmp_path, user):
    install(user, make_extension(tmp_path / "jars", {"A.groovy": "a"}))
    uninstall(user)
    assert not (user.path / "scripts/ConceptSeg").exists()
    assert uninstall(user).done == []


def test_renamed_nested_and_half_copied_jars_of_ours_are_replaced(tmp_path, user):
    make_jar(user.path / "extensions/renamed.jar", {})
    make_jar(user.path / "extensions/sub/conceptseg-qupath-0.9.jar", {})
    (user.path / "extensions/conceptseg-qupath-0.8.jar").write_bytes(b"half")
    install(user, make_extension(tmp_path / "jars", {}))
    jars = [path.name for path in (user.path / "extensions").rglob("*.jar")]
    assert jars == ["conceptseg-qupath-1.0.jar"]


def test_a_jar_that_cannot_be_written_leaves_the_old_one(tmp_path, user, monkeypatch):
    install(user, make_extension(tmp_path / "1", {}))
    before = snapshot(user.path)
    newer = make_extension(tmp_path / "2", {}, version="1.1")

    def write_half(self, content):
        with self.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(OutputError, match="No space left"):
        install(user, newer)
    monkeypatch.undo()
    assert snapshot(user.path) == before


@pytest.mark.parametrize("version", ["1.0", "1.1"])  # the same name, and another one
def test_a_jar_that_windows_locks_is_one_clear_error_and_nothing_is_changed(tmp_path, user, monkeypatch, version):
    install(user, make_extension(tmp_path / "1", {}))
    before = snapshot(user.path)
    newer = make_extension(tmp_path / "2", {"New.groovy": ""}, version=version)

    def is_installed_jar(path):
        return Path(path).name == "conceptseg-qupath-1.0.jar"

    def replace(self, target, replace=Path.replace):
        if is_installed_jar(target):
            raise PermissionError(13, "Access is denied", str(self), None, str(target))
        return replace(self, target)

    def unlink(self, *, missing_ok=False, unlink=Path.unlink):
        if is_installed_jar(self):
            raise PermissionError(13, "Access is denied", str(self))
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(OutputError, match=r"conceptseg-qupath-1\.0\.jar: a program uses it.* Close QuPath"):
        install(user, newer)
    with pytest.raises(OutputError, match="Close QuPath"):
        uninstall(user)
    monkeypatch.undo()
    assert snapshot(user.path) == before


def test_what_a_killed_installation_left_is_removed(tmp_path, user):
    half = user.path / "extensions/.conceptseg-qupath-0.9.jar.a1b2c3.jar"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    install(user, make_extension(tmp_path / "jars", {}))
    assert [path.name for path in half.parent.iterdir()] == ["conceptseg-qupath-1.0.jar"]


def test_a_damaged_or_malicious_record_does_no_harm(tmp_path, user):
    install(user, make_extension(tmp_path / "jars", {"A.groovy": "a"}))
    victim = user.path / "scripts/victim.groovy"
    victim.write_text("mine")
    checksum = module._checksum(victim)
    (user.path / module.RECORD_NAME).write_text(json.dumps({"scripts": {"../victim.groovy": checksum}}))
    uninstall(user)
    assert victim.is_file()
    (user.path / module.RECORD_NAME).write_text("{")
    assert uninstall(user).done == []


def test_without_a_jar_the_message_says_how_to_get_one(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidRequestError, match=r"make jar.*Maven.*pip install"):
        find_extension([tmp_path / "empty", tmp_path / "missing"])


def test_the_package_comes_before_the_build_and_other_jars_are_passed_over(tmp_path):
    packaged = make_jar(tmp_path / "package/conceptseg-qupath-1.0.jar", {})
    built = make_jar(tmp_path / "target/conceptseg-qupath-1.1.jar", {})
    for name in ("original-conceptseg-qupath-1.1", *(f"conceptseg-qupath-1.2-{k}" for k in BUILD_LEFTOVERS)):
        make_jar(tmp_path / f"target/{name}.jar", {})
    assert find_extension([tmp_path / "package", tmp_path / "target"]).jar == packaged
    assert find_extension([tmp_path / "missing", tmp_path / "target"]).jar == built


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="qupath-user-dir"):
        install(UserFolder(path=tmp_path / "file/v0.6"), make_extension(tmp_path / "jars", {}))


def test_the_server_is_started_with_this_python(home, tmp_path):
    assert "no" in (server_command_problem() or "")
    path = write_server_command()
    assert path == tmp_path / "config/qupath.json"
    assert json.loads(path.read_text())["command"] == [sys.executable, "-m", "conceptseg", "serve"]
    assert server_command_problem() is None
    path.write_text(json.dumps({"command": [str(tmp_path / "gone/python"), "-m", "conceptseg", "serve"]}))
    assert "gone" in server_command_problem()
    path.write_text("{}")
    assert "damaged" in server_command_problem()
    assert server_command()[0] == sys.executable


def test_status_says_what_is_there_and_what_is_not_as_it_should_be(tmp_path, user):
    old = make_extension(tmp_path / "1", {"A.groovy": "a", "B.groovy": "b"})
    assert "not installed" in status(user, old).advice[0]
    install(user, old)
    assert status(user, old).advice == []
    assert "1.0" in status(user, old).done[0]
    (user.path / "scripts/ConceptSeg/A.groovy").write_text("mine")
    (user.path / "scripts/ConceptSeg/B.groovy").unlink()
    report = status(user, make_extension(tmp_path / "2", {}, version="1.1"))
    assert "edited" in report.kept[0]
    assert [any(word in line for line in report.advice) for word in ("1.1", "B.groovy")] == [True, True]


# ---------- Finding the user folder ----------


def test_node_names_are_those_that_java_makes():
    # Taken from a folder that QuPath wrote.
    assert node_name("io.github.qupath") == "_!'k!bw!u!'c!a@\"0!'g!d@\"i!#4!c@\"1!(!!}@\"0!'g="
    assert [node_name("0.5"), node_name("0.6")] == ["_!$!!.g!1", "_!$!!.g!2"]
    assert node_name("tests") == "tests"


@pytest.mark.parametrize(
    "path", [r"C:\Users\Ann\QuPath\v0.6", r"D:\Zoë Müller\ünï\x", "/home/a/B", r"\\server\Share\u00e4"]
)
def test_registry_values_survive_both_ways(path):
    assert decode_registry(encode_registry(path)) == path


def test_a_windows_path_is_written_as_java_writes_it():
    assert encode_registry(r"C:\Users\Ann") == "/C:///Users///Ann"
    assert encode_registry("userPath") == "user/Path"
    assert encode_registry("ë/") == "/u00eb\\"


def test_the_property_list_of_macos_is_read(tmp_path):
    file = tmp_path / "com.apple.java.util.prefs.plist"
    nodes = {"0.5/": {"userPath": "/Users/ann/QuPath/v0.5"}, "0.6/": {}, "other/": {"userPath": "/x"}}
    file.write_bytes(plistlib.dumps({"/": {"io.github.qupath/": nodes}}, fmt=plistlib.FMT_BINARY))
    assert dict(macos_values(file)) == {"0.5": "/Users/ann/QuPath/v0.5", "0.6": None}
    file.write_bytes(b"damaged")
    assert dict(macos_values(file)) == {}
    assert dict(macos_values(tmp_path / "missing")) == {}


def write_preferences(home: Path, version: str, entries: str) -> None:
    node = home / ".java/.userPrefs" / node_name("io.github.qupath") / node_name(version)
    node.mkdir(parents=True, exist_ok=True)
    (node / "prefs.xml").write_text(
        '<?xml version="1.0" encoding="UTF-8" standalone="no"?>\n'
        '<!DOCTYPE map SYSTEM "http://java.sun.com/dtd/preferences.dtd">\n'
        f'<map MAP_XML_VERSION="1.0">{entries}</map>'
    )


@linux_only
def test_folders_are_those_that_preferences_name_or_the_defaults(home, tmp_path):
    chosen = tmp_path / "my & folder"
    write_preferences(home, "0.5", f'<entry key="userPath" value="{str(chosen).replace("&", "&amp;")}"/>')
    write_preferences(home, "0.6", '<entry key="other" value="x"/>')
    write_preferences(home, "0.4", '<entry key="userPath" value="/too/old"/>')
    (home / "QuPath/v0.7").mkdir(parents=True)
    (home / "QuPath/v0.3").mkdir()
    (home / "QuPath/various").mkdir()
    assert find_user_folders() == [
        UserFolder(path=chosen, versions=("0.5",)),
        UserFolder(path=home / "QuPath/v0.6", versions=("0.6",), unset=("0.6",)),
        UserFolder(path=home / "QuPath/v0.7", versions=("0.7",), unset=("0.7",)),
    ]


@linux_only
def test_versions_that_share_a_folder_are_one_folder(home, tmp_path):
    for version in ("0.5", "0.6", "0.10"):
        write_preferences(home, version, f'<entry key="userPath" value="{tmp_path}"/>')
    assert find_user_folders() == [UserFolder(path=tmp_path, versions=("0.5", "0.6", "0.10"))]


@linux_only
def test_the_folder_is_set_without_losing_other_preferences(home, tmp_path):
    write_preferences(home, "0.6", '<entry key="a &quot;key&quot;" value="1 &lt; 2&#10;next"/>')
    folder = tmp_path / 'of "Zoë" & co'
    assert set_user_path("0.6", folder)
    assert set_user_path("0.5", tmp_path)
    assert read_user_paths() == {"0.5": tmp_path, "0.6": folder}
    node = home / ".java/.userPrefs" / node_name("io.github.qupath") / node_name("0.6")
    from conceptseg.qupath.java_preferences import _entries

    assert _entries(node / "prefs.xml") == {'a "key"': "1 < 2\nnext", "userPath": str(folder)}


@linux_only
def test_damaged_preferences_count_as_absent(home):
    write_preferences(home, "0.6", "<entry")
    assert read_user_paths() == {"0.6": None}


def test_without_any_qupath_the_message_says_what_to_do(home):
    with pytest.raises(InvalidRequestError, match="--qupath-user-dir"):
        choose_user_folders(None)


def test_a_folder_that_no_preference_names_is_used_with_a_hint(home, tmp_path):
    (folder,) = choose_user_folders(tmp_path / "elsewhere")
    report = install(folder, make_extension(tmp_path / "jars", {}))
    assert "user directory" in report.advice[0]


# ---------- The command ----------


@pytest.fixture
def run(home, tmp_path, monkeypatch):
    extension = make_extension(tmp_path / "jars", {"A.groovy": "a"})
    monkeypatch.setattr("conceptseg.cli.qupath.find_extension", lambda: extension)
    monkeypatch.setattr("conceptseg.cli.qupath._compile_ahead", lambda: run.compiled.append(True))

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(qupath_command, arguments, standalone_mode=False)
        if result.exception:
            raise result.exception
        run.code = result.return_value
        return result.output

    run.compiled = []
    return run


def test_the_first_click_shall_not_wait_for_a_compiler(run, tmp_path):
    run("install", "--qupath-user-dir", str(tmp_path / "QuPath"), "--no-compile")
    assert run.compiled == []
    assert "minute" in run("install", "--qupath-user-dir", str(tmp_path / "QuPath"))
    json.loads(run("install", "--qupath-user-dir", str(tmp_path / "QuPath"), "--json"))
    assert run.compiled == [True, True]


def test_install_status_uninstall(run, home, tmp_path):
    folder = str(tmp_path / "QuPath")
    run("status", "--qupath-user-dir", folder)
    assert run.code == 1
    assert "Extensions > ConceptSeg" in run("install", "--qupath-user-dir", folder)
    assert "up to date" in run("install", "--qupath-user-dir", folder)
    answer = json.loads(run("status", "--qupath-user-dir", folder, "--json"))
    assert answer["problems"] == []
    assert run.code == 0
    assert answer["folders"][0]["folder"] == folder
    assert "Removed" in run("uninstall", "--qupath-user-dir", folder)
    assert "Nothing" in run("uninstall", "--qupath-user-dir", folder)
    assert (tmp_path / "config/qupath.json").is_file()  # other folders may need it


@linux_only
def test_all_qupaths_are_served_and_their_preferences_set(run, home, tmp_path):
    write_preferences(home, "0.5", "")
    write_preferences(home, "0.6", f'<entry key="userPath" value="{tmp_path / "six"}"/>')
    run("install")
    assert read_user_paths() == {"0.5": home / "QuPath/v0.5", "0.6": tmp_path / "six"}
    assert (home / "QuPath/v0.5/extensions/conceptseg-qupath-1.0.jar").is_file()
    assert (tmp_path / "six/extensions/conceptseg-qupath-1.0.jar").is_file()
    run("status")
    assert run.code == 0
    run("uninstall")
    assert not (tmp_path / "config/qupath.json").exists()


@linux_only
@pytest.mark.qupath
@pytest.mark.parametrize("qupath", find_qupath_installations() or [None], ids=lambda q: q.version if q else "none")
def test_qupath_itself_finds_the_folder_that_was_set(qupath, home, tmp_path, monkeypatch):
    version = ".".join(qupath.version.split(".")[:2])
    folder = tmp_path / "user folder of Zoë"
    install(
        UserFolder(path=folder, versions=(version,), unset=(version,)),
        make_extension(tmp_path / "jars", {"A.groovy": ""}),
    )
    # A service whose class is missing ends QuPath's start from 0.7 on.
    make_jar(folder / "extensions/conceptseg-qupath-1.0.jar", {}, service="# none")
    script = tmp_path / "script.groovy"
    script.write_text(
        'import qupath.lib.gui.UserDirectoryManager\nprintln "FOLDERS " + UserDirectoryManager.getInstance().with '
        "{ [getExtensionsPath(), getScriptsDirectoryPath()].collect { it.toFile().isDirectory() } }\n"
    )
    done = subprocess.run(
        [qupath.launcher, "script", script], env=os.environ, capture_output=True, text=True, timeout=300, check=False
    )
    assert "FOLDERS [true, true]" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("page", ["README.md", "qupath_scripts/README.md"])
def test_the_extension_is_built_before_the_installation_that_takes_it_along(page):
    text = (Path(__file__).parents[2] / page).read_text(encoding="utf-8")
    commands = [line for line in text.splitlines() if line.startswith(("$ ", "> "))]
    installing = [number for number, line in enumerate(commands) if "pip install ." in line]
    building = [n for n, line in enumerate(commands) if line == "$ make jar" or line.startswith("> copy ")]
    assert len(building) == len(installing) > 0
    assert all(jar < package for jar, package in zip(building, installing, strict=True))
