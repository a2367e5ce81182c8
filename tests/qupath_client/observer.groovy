// Runs inside QuPath from its start and answers what a test asks, on the JavaFX thread: N.groovy in the folder
// conceptseg.test.folder becomes N.json. A question is Groovy; it may use the bindings at the end of this file.
import groovy.lang.Binding
import groovy.lang.GroovyShell
import java.nio.file.Files
import java.nio.file.StandardCopyOption
import java.util.concurrent.FutureTask
import java.util.concurrent.atomic.AtomicLong
import javafx.application.Platform
import javafx.scene.Parent
import javafx.scene.control.Labeled
import javafx.scene.control.TextInputControl
import javafx.stage.Window
import org.codehaus.groovy.control.CompilerConfiguration
import org.codehaus.groovy.control.customizers.ImportCustomizer
import qupath.lib.gui.scripting.QPEx
import qupath.lib.io.GsonTools

def folder = new File(System.getProperty("conceptseg.test.folder"))

// All nodes that are shown, of all windows, the newest window last.
def below
below = { node ->
    !node.isVisible() ? [] : [node] + (node instanceof Parent ? node.getChildrenUnmodifiable().collectMany(below) : [])
}
def nodes = { -> Window.getWindows().findAll { it.isShowing() && it.scene != null }.collectMany { below(it.scene.root) } }
def texts = { -> nodes().findAll { it instanceof Labeled || it instanceof TextInputControl }*.text.findAll() }
// Where the middle of each control with this text is on the screen.
def places = { text ->
    nodes().findAll { it instanceof Labeled && it.text == text && it.width > 0 }.collect {
        def bounds = it.localToScreen(it.boundsInLocal)
        [bounds.centerX, bounds.centerY]
    }
}

// The longest time that the JavaFX thread has kept anybody waiting, in ns, since it was last read; and when it ended.
def longestWait = new AtomicLong()
def lastStall = new AtomicLong()
Thread.startDaemon("Test: responsiveness") {
    while (true) {
        def asked = System.nanoTime()
        def answer = new FutureTask<Void>({ }, null)
        Platform.runLater(answer)
        answer.get()
        def waited = System.nanoTime() - asked
        longestWait.accumulateAndGet(waited, Math::max)
        if (waited > 100_000_000)
            lastStall.set(System.currentTimeMillis())
        sleep(20)
    }
}

def configuration = new CompilerConfiguration()
def imports = new ImportCustomizer().addStaticStars(QPEx.name)
QPEx.getCoreClasses().each { imports.addImports(it.name) }
configuration.addCompilationCustomizers(imports)
def binding = new Binding([nodes: nodes, texts: texts, places: places, longestWait: longestWait, lastStall: lastStall])
def shell = new GroovyShell(this.class.classLoader, binding, configuration)

def answer = { question ->
    def work = new FutureTask<Object>({
        try {
            [value: shell.evaluate(question)]
        } catch (Throwable error) {
            [error: error.toString()]
        }
    })
    Platform.runLater(work)
    GsonTools.getInstance().toJson(work.get())
}
Thread.startDaemon("Test: questions") {
    for (int number = 0; ; number++) {
        def question = new File(folder, "${number}.groovy")
        while (!question.exists())
            sleep(10)
        def written = new File(folder, "${number}.json.part")
        written.setText(answer(question.getText("UTF-8")), "UTF-8")
        Files.move(written.toPath(), new File(folder, "${number}.json").toPath(), StandardCopyOption.ATOMIC_MOVE)
    }
}
