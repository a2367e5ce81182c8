package qupath.lib.plugins.workflow;

import java.util.Map;

public class DefaultScriptableWorkflowStep implements WorkflowStep {
    public DefaultScriptableWorkflowStep(String name, Map<String, ?> parameters, String script) {
    }
}
