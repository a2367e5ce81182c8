package qupath.lib.gui.scripting.languages;

import qupath.lib.scripting.languages.ScriptLanguage;

public class ScriptLanguageProvider {
    public static native ScriptLanguage fromString(String name);
}
