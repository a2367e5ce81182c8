/*
 * ConceptSeg: check server
 *
 * What it does
 *   Finds or starts the server and lists versions, device, encoders and dictionaries; if something is missing, it
 *   says what to do.
 *
 * How to use
 *   Extensions > ConceptSeg > Check server, or Run in the script editor, or QuPath script. Needs no image.
 */

import io.github.conceptseg.ConceptSeg // "unable to resolve class": run `conceptseg qupath install`, restart QuPath
import javafx.stage.Modality
import qupath.fx.dialogs.Dialogs
import qupath.fx.utils.FXUtils

// ---------- Settings ----------

// Lines of the server's log to show when something is wrong.
def logLines = 20

// ---------- Script ----------

def check = ConceptSeg.checkServer()
def text = check.toString()
if (!check.isOk()) {
    def log = ConceptSeg.serverLog(logLines)
    if (log)
        text += "\n\nThe end of the server's log:\n" + log.join("\n")
}
println text
if (getQuPath() != null && getCurrentViewer()?.getImageData() == getCurrentImageData())
    FXUtils.runOnApplicationThread {
        Dialogs.showTextWindow(getQuPath().getStage(), "ConceptSeg server", text, Modality.NONE, false)
    }
else if (!check.isOk())
    throw new IllegalStateException("The ConceptSeg server is not ready: see above.")
println "Checked the server: ${check.isOk() ? 'ready' : 'not ready'}."
