package qupath.lib.scripting.languages;

import javax.script.ScriptException;
import qupath.lib.scripting.ScriptParameters;

public interface ExecutableLanguage {
    Object execute(ScriptParameters parameters) throws ScriptException;
}
