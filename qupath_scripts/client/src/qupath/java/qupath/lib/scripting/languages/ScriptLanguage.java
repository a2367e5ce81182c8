package qupath.lib.scripting.languages;

public abstract class ScriptLanguage {
}
