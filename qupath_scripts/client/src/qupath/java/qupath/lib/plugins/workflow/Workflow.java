package qupath.lib.plugins.workflow;

public class Workflow {
    public native void addStep(WorkflowStep step);
}
